"""A seeded fuzzer of the meter: random call patterns over every route, an independent witness counting in the reward.

After every operation the rows that the witness has answered must equal the rows charged and not still open, and no
meter may be above its budget. `benchmarks/meter.py fuzz` runs it at full size, tests/meter/test_oracle.py at 1%.
"""

from __future__ import annotations

import copy
import mmap
import pickle
import random
import struct
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import gymnasium as gym
import numpy as np
from gymnasium.vector import SyncVectorEnv

from banel_envs import BudgetExhausted, GenerationEnv, GenerationVectorEnv, Ledger, Oracle, Problem, Task
from banel_envs.errors import (
    BadReward,
    BadTokens,
    BadValue,
    LedgerLocked,
    OpenQuestion,
    OracleBusy,
    OracleClosed,
    OracleMoved,
    ReplayDiverged,
    SeveralBudgets,
)
from banel_envs.policies import Uniform
from banel_envs.task import TASKS, register_task

T, END, WORDS = 3, 3, ("a", "b", "c", "$")


class Boom(RuntimeError):
    """What the reward raises when told to."""


def truth(tokens: np.ndarray) -> np.ndarray:
    """The reward itself: int8 [n]."""
    return (tokens.sum(axis=1) % 5 == 0).astype(np.int8)


class Witness:
    """A reward that counts what it answers, in memory that forked children share, and fails when told to."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 8)
        self.mood = "well"
        self.oracle: Oracle | None = None  # what the mood "asks" asks

    @property
    def answered(self) -> int:
        return struct.unpack("q", self._shared[:8])[0]

    def _count(self, n: int) -> None:
        self._shared[:8] = struct.pack("q", self.answered + n)

    def __call__(self, tokens: np.ndarray) -> Any:
        mood, self.mood = self.mood, "well"
        if mood == "raise":
            raise Boom
        if mood == "interrupt":
            raise KeyboardInterrupt
        if mood == "asks" and self.oracle is not None:
            self.oracle(tokens[::-1])
        if mood in ("parts", "torn parts"):
            return self._parts(tokens, torn=mood == "torn parts")
        if mood == "bad":
            return random.choice([np.full(len(tokens), np.nan), np.full(len(tokens), 2), [0] * (len(tokens) + 1), "no"])
        self._count(len(tokens))
        return truth(tokens)

    def _parts(self, tokens: np.ndarray, torn: bool) -> Iterator[tuple[int, int, np.ndarray]]:
        order = list(range(len(tokens)))[::-1]
        for k in order[: len(order) // 2] if torn else order:
            self._count(1)
            yield k, k + 1, truth(tokens[k : k + 1])
        if torn:
            raise Boom


WITNESS = Witness()
MOODS = ("raise", "interrupt", "parts", "torn parts", "bad")


def build() -> Task:
    """A task of 4 tokens and sequences of up to 3, counted by WITNESS."""
    return Task(Problem("fuzz/Meter-v0", WORDS, T, 20, partial(Uniform, len(WORDS), T, END), end=END), WITNESS)


if "fuzz/Meter-v0" not in TASKS:
    register_task("fuzz/Meter-v0", build)


def legal(n: int, rng: random.Random) -> np.ndarray:
    """n random sequences [n, T]."""
    rows = np.array([[rng.randrange(4) for _ in range(T)] for _ in range(n)], np.int64).reshape(n, T)
    rows[np.maximum.accumulate(rows == END, axis=1)] = END
    return rows


ILLEGAL: list[Any] = [
    np.zeros((2, T)),
    np.full((1, T), 4),
    np.full((1, T), -1),
    np.zeros((1, T + 1), int),
    np.zeros(T, int),
    np.array([[END, 0, 0]]),
    [[0, 1], [2]],
    np.zeros((1, T), bool),
    np.full((1, T), 2**63, np.uint64),
    "abc",
    None,
]


@dataclass
class Account:
    """One meter, and the doors that lead to it."""

    oracle: Oracle
    path: Path | None
    doors: list[Any] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """Rows charged that have their answer, by the meter's own books."""
        return self.oracle.count - self.unanswered

    @property
    def unanswered(self) -> int:
        if not self.oracle.open:
            return 0
        asks = self.oracle.ledger.asks
        return int((asks[-1].rewards < 0).sum())


class Pattern:
    """One world and a sequence of operations on it."""

    def __init__(self, seed: int, folder: Path, tally: Counter[str]) -> None:
        self.rng = random.Random(seed)
        self.folder, self.tally, self.seed = folder, tally, seed
        self.task = TASKS["fuzz/Meter-v0"]
        self.before = WITNESS.answered
        self.accounts: list[Account] = []
        WITNESS.mood = "well"
        self.new_oracle()

    def new_oracle(self) -> None:
        path = self.folder / f"{self.seed}-{len(self.accounts)}.jsonl" if self.rng.random() < 0.15 else None
        oracle = Oracle(
            self.task,
            budget=self.rng.randint(1, 25),
            feedback=self.rng.choice(("full", "failures")),
            ledger=path,
        )
        self.accounts.append(Account(oracle, path))

    def run(self) -> None:
        routes = list(ROUTES)
        for _ in range(self.rng.randint(3, 12)):
            route = self.rng.choices(routes, [ROUTES[r][1] for r in routes])[0]
            WITNESS.mood = self.rng.choice(MOODS) if self.rng.random() < 0.15 else "well"
            self.tally[route] += 1
            ROUTES[route][0](self, self.rng.choice(self.accounts))
            self.check(route)
        WITNESS.mood = "well"
        for account in self.accounts:
            self.settle(account)
        self.check("settle")
        self.tally["evaluated"] += WITNESS.answered - self.before
        self.tally["charged"] += sum(a.oracle.count for a in self.accounts)
        for account in self.accounts:
            self.audit(account)

    def check(self, route: str) -> None:
        answered = WITNESS.answered - self.before
        booked = sum(a.answered for a in self.accounts)
        if answered != booked:
            self.tally["differences"] += 1
            self.tally[f"differences after {route}"] += 1
        if any(a.oracle.count > a.oracle.budget or a.oracle.left < 0 for a in self.accounts):
            self.tally["above budget"] += 1

    def settle(self, account: Account) -> None:
        """Ask an open question again, as its asker would."""
        oracle = account.oracle
        if oracle.open:
            oracle(oracle.ledger.tokens(oracle.ledger.asks[-1]))
        if oracle.open:
            self.tally["never settled"] += 1

    def audit(self, account: Account) -> None:
        """The ledger says what the meter says."""
        count = account.oracle.count
        if account.oracle.ledger.count != count:
            self.tally["ledger differences"] += 1
        account.oracle.close()
        if account.path is not None:
            ledger = Ledger.read(account.path)
            if ledger.count != count or any(ask.open for ask in ledger.asks):
                self.tally["ledger differences"] += 1
            account.path.unlink()

    def attempt(self, work: Callable[[], Any], *expected: type[BaseException]) -> Any:
        """Do it; what a sound meter may raise is no news."""
        usual = (Boom, KeyboardInterrupt, BadReward, BudgetExhausted, OpenQuestion)
        try:
            return work()
        except (*usual, *expected) as error:
            self.tally[f"raised {type(error).__name__}"] += 1
            return None

    def refused(self, work: Callable[[], Any], *kinds: type[BaseException]) -> None:
        """Do what must be refused, and count it if it is not."""
        try:
            work()
        except kinds as error:
            self.tally[f"raised {type(error).__name__}"] += 1
        else:
            self.tally["not refused"] += 1


def direct(world: Pattern, account: Account) -> None:
    """Call the oracle with 0 to 6 sequences and check its answer."""
    oracle = account.oracle
    tokens = legal(world.rng.randint(0, 6), world.rng)
    answer = world.attempt(lambda: oracle(tokens))
    if answer is not None:
        expected = truth(tokens).astype(np.float32)
        if oracle.feedback == "failures":
            expected[expected == 1] = np.nan
        if not np.array_equal(answer, expected, equal_nan=True):
            world.tally["wrong answers"] += 1


def too_large(world: Pattern, account: Account) -> None:
    """A batch that does not fit is refused whole."""
    oracle = account.oracle
    tokens = legal(oracle.left + world.rng.randint(1, 5), world.rng)
    if oracle.open != len(tokens):
        world.refused(lambda: oracle(tokens), BudgetExhausted, OpenQuestion)


def illegal(world: Pattern, account: Account) -> None:
    """What is no batch of sequences is refused."""
    world.refused(lambda: account.oracle(world.rng.choice(ILLEGAL)), BadTokens)


def single_env(world: Pattern, account: Account) -> None:
    """One more GenerationEnv on the oracle, or one that is there already, possibly in the middle of an episode."""
    env = door(world, account, GenerationEnv, lambda: GenerationEnv(world.task.problem, account.oracle))
    play(world, env)


def play(world: Pattern, env: Any) -> None:
    """Some steps of a single environment, with resets of every form in between."""
    for _ in range(world.rng.randint(1, 8)):
        if env.unwrapped._live and world.rng.random() < 0.9:
            world.attempt(lambda: env.step(np.int64(world.rng.randrange(4))))
        else:
            seed = world.rng.choice((None, 0, 7))
            options = world.rng.choice((None, {}, {"budget": 100, "reset": True}))
            world.attempt(lambda s=seed, o=options: env.reset(seed=s, options=o))


def vector_env(world: Pattern, account: Account) -> None:
    """A GenerationVectorEnv on the oracle."""
    n = world.rng.randint(1, 4)
    env = door(world, account, GenerationVectorEnv, lambda: GenerationVectorEnv(world.task.problem, account.oracle, n))
    play_many(world, env)


def play_many(world: Pattern, env: Any) -> None:
    """Some steps of a vector environment.

    An exception in one copy of a SyncVectorEnv leaves Gymnasium's own account of who has ended behind: the next step
    may then step a copy that has, which that copy refuses with BadValue.
    """
    if world.attempt(lambda: env.reset(seed=world.rng.choice((None, 3)))) is not None:
        for _ in range(world.rng.randint(1, 6)):
            actions = np.array([world.rng.randrange(4) for _ in range(env.num_envs)])
            world.attempt(lambda a=actions: env.step(a), BadValue)


def sb3_env(world: Pattern, account: Account) -> None:
    """The Stable-Baselines3 form of a vector env on the oracle."""
    from banel_envs import as_sb3_vec_env

    env = as_sb3_vec_env(GenerationVectorEnv(world.task.problem, account.oracle, world.rng.randint(1, 3)))
    if world.attempt(env.reset) is not None:
        for _ in range(world.rng.randint(1, 5)):
            world.attempt(lambda: env.step(np.array([world.rng.randrange(4) for _ in range(env.num_envs)])))


def door(world: Pattern, account: Account, kind: type, make: Callable[[], Any]) -> Any:
    known = [d for d in account.doors if type(d) is kind]
    if known and world.rng.random() < 0.5:
        return world.rng.choice(known)
    account.doors.append(make())
    return account.doors[-1]


def made_env(world: Pattern, account: Account) -> None:
    """gym.make: an experiment of its own, with its own meter."""
    env = gym.make("fuzz/Meter-v0", budget=world.rng.randint(1, 9), disable_env_checker=True)
    world.accounts.append(Account(env.unwrapped.oracle, None))
    play(world, env)


def made_vec(world: Pattern, account: Account) -> None:
    """gym.make_vec: one meter for all copies."""
    env = gym.make_vec("fuzz/Meter-v0", num_envs=3, budget=world.rng.randint(1, 9))
    world.accounts.append(Account(env.unwrapped.oracle, None))
    play_many(world, env)


def sync_vec(world: Pattern, account: Account) -> None:
    """SyncVectorEnv over gym.make: as many meters as copies."""
    make = lambda: gym.make("fuzz/Meter-v0", budget=world.rng.randint(1, 9), disable_env_checker=True)  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SeveralBudgets)
        env = SyncVectorEnv([make, make])
    world.accounts += [Account(e.unwrapped.oracle, None) for e in env.envs]
    play_many(world, env)


def copied(world: Pattern, account: Account) -> None:
    """Copies and pickles of the oracle and of what holds it."""
    oracle, env = account.oracle, GenerationEnv(world.task.problem, account.oracle)
    thing = world.rng.choice((oracle, env, {"oracle": oracle}, [env]))
    deep = [copy.deepcopy, pickle.dumps, lambda x: pickle.loads(pickle.dumps(x, protocol=2))]
    world.refused(lambda: world.rng.choice(deep)(thing), OracleMoved)
    world.refused(lambda: copy.copy(oracle), OracleMoved)
    world.refused(lambda: copy.copy(oracle.ledger), LedgerLocked)
    play(world, copy.copy(env))


def threaded(world: Pattern, account: Account) -> None:
    """A call from another thread."""
    tokens, seen = legal(2, world.rng), []
    env = GenerationVectorEnv(world.task.problem, account.oracle, 2)
    work = world.rng.choice((lambda: account.oracle(tokens), account.oracle.close, lambda: [play_once(env)]))

    def call() -> None:
        try:
            seen.append(work())
        except OracleMoved:
            world.tally["raised OracleMoved"] += 1

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    if seen:
        world.tally["not refused"] += 1


def play_once(env: GenerationVectorEnv) -> None:
    """One episode of T tokens in every copy; an exhausted budget is a refusal too."""
    env.reset()
    for _ in range(T):
        env.step(np.zeros(env.num_envs, int))
    raise OracleMoved("nothing was left to ask, so nothing was refused")


def meddled(world: Pattern, account: Account) -> None:
    """Setting what looks like the meter."""
    name = world.rng.choice(("count", "left", "budget", "feedback", "spent", "open", "reset", "problem", "__dict__"))
    world.refused(lambda: setattr(account.oracle, name, 0), AttributeError)


def reopened(world: Pattern, account: Account) -> None:
    """Close, open again with the same ledger, ask the same questions: answered from the ledger, for nothing."""
    if account.path is None:
        return
    old = account.oracle
    asks = [(old.ledger.tokens(ask), ask.rewards.copy(), ask.open) for ask in old.ledger.asks]
    same = partial(Oracle, world.task, budget=old.budget, feedback=old.feedback, ledger=account.path)
    with mock.patch("banel_envs.meter.ledger_store.LOCK_PATIENCE", 0.0):  # nobody is going to let go of it
        world.refused(lambda: same().ledger, LedgerLocked)
    mood, WITNESS.mood = WITNESS.mood, "well"
    old.close()
    world.refused(lambda: old(legal(1, world.rng)), OracleClosed)
    account.doors.clear()
    account.oracle = new = same()
    if asks and world.rng.random() < 0.5:
        world.refused(lambda: new(np.full((7, T), END)), ReplayDiverged)
    for tokens, rewards, was_open in asks:
        answer = new(tokens)
        if not was_open and not np.array_equal(np.isnan(answer) | (answer == 1), rewards == 1):
            world.tally["wrong answers"] += 1
    WITNESS.mood = mood
    if new.count != old.count:
        world.tally["differences"] += 1


def another(world: Pattern, account: Account) -> None:
    """One more oracle for the same task."""
    world.new_oracle()


def asking_reward(world: Pattern, account: Account) -> None:
    """A reward that asks the oracle which is asking it; then the same call again."""
    tokens = legal(world.rng.randint(1, 5), world.rng)
    for mood in ("asks", "well"):
        WITNESS.mood, WITNESS.oracle = mood, account.oracle
        world.attempt(lambda: account.oracle(tokens), OracleBusy)
    WITNESS.oracle = None


def torn_call(world: Pattern, account: Account) -> None:
    """A call whose reward fails, at once followed by the same call."""
    tokens = legal(world.rng.randint(1, 5), world.rng)
    WITNESS.mood = world.rng.choice(MOODS)
    world.attempt(lambda: account.oracle(tokens))
    world.attempt(lambda: account.oracle(tokens))


ROUTES: dict[str, tuple[Callable[[Pattern, Account], None], float]] = {
    "direct call": (direct, 8),
    "failing call": (torn_call, 2),
    "reward that asks": (asking_reward, 1),
    "batch too large": (too_large, 2),
    "illegal tokens": (illegal, 1),
    "GenerationEnv": (single_env, 4),
    "GenerationVectorEnv": (vector_env, 4),
    "SB3 vec env": (sb3_env, 1.5),
    "gym.make": (made_env, 0.3),
    "gym.make_vec": (made_vec, 0.3),
    "SyncVectorEnv": (sync_vec, 0.1),
    "copies and pickles": (copied, 1),
    "thread": (threaded, 0.7),
    "setting attributes": (meddled, 0.5),
    "reopening": (reopened, 2),
    "another oracle": (another, 0.5),
}

BAD = ("differences", "above budget", "ledger differences", "wrong answers", "not refused", "never settled")


def fuzz(patterns: int, seed: int = 0, progress: Callable[[Any], Any] = iter) -> Counter[str]:
    """Run that many patterns; the tally, in which every figure named in BAD should be 0."""
    tally: Counter[str] = Counter({name: 0 for name in BAD})
    with tempfile.TemporaryDirectory() as folder:
        for k in progress(range(patterns)):
            Pattern(seed * 1_000_003 + k, Path(folder), tally).run()
    return tally
