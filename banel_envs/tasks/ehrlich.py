"""Ehrlich functions: write a sequence that contains every hidden spaced motif (Stanton et al. 2024).

A Markov chain over V tokens bans some transitions. A sequence of L tokens that uses a banned one is infeasible. Each of c
hidden motifs has k tokens at hidden distances. At each place of a sequence some share of a motif is found; the largest
share counts, rounded down to a multiple of 1/q. The value of a feasible sequence is the product of these shares over the
motifs. Success: value 1. The base policy is the task's own chain, together with a transformer whose output is zero before
training. There is no end token: every sequence has L tokens.

The registered ids have one size (V 12 L 10 c 2 k 4 q 4, horizon 10, budget 7,500) and different motifs. Their functions
are those that pytorch-holo 0.0.5 draws for a torch seed. The numbers are exact, as in tests/tasks/test_ehrlich.py:

    id               seed   base success   successes   effective
    EhrlichEasy-v0    29     10^-2.0842      7,916       729.1
    Ehrlich-v0        31     10^-3.9793      4,597       242.1
    EhrlichHard-v0    26     10^-6.1627        924       179.5

`ehrlich(...)` makes any other size, with this package's own generator.
What a failure can teach: every sample of the base policy is feasible, so a failure says that a motif is missing, and never
which one. Successes are rare samples of the chain, so most failures are its common samples. Rejecting these moves
probability to rarer transitions, towards the motifs or away from them. The answers tell the two apart only if a run meets
successes, which are then missing from the failures. At a base success of 1e-2 that is so (one seed: BaNEL ends at
10^-2.07 and its oracle-free twin at 10^-3.85). At 1e-4 and below a run may meet no success, and then it equals its twin.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from banel_envs.assets import asset, combined_digest
from banel_envs.automaton import Automaton
from banel_envs.errors import BadValue, MissingExtra
from banel_envs.policies.protocol import Policy
from banel_envs.policies.storage.store import shipped_policy
from banel_envs.problem import Problem, Tokens
from banel_envs.task import Task

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits
FUNCTIONS = "ehrlich_functions.npz"  # what pytorch-holo's generator drew for the registered ids
ENUMERABLE = 1_000_000  # the most successes that are listed; each counts once for every way its motifs can lie in it
LAYOUTS = 20_000  # the most ways for the motifs to lie in a sequence that are looked through
BUDGET = 7_500
HOT = 0.5  # softmax temperature of a random transition matrix, as in pytorch-holo
BAND = 0.4  # share of V that a token's band of possible successors reaches to either side, as in pytorch-holo


@dataclass(frozen=True, eq=False)
class Ehrlich:
    """One Ehrlich function: a chain, motifs and distances."""

    initial: Floats  # the distribution of the first token [V]
    transition: Floats  # the distribution of the next token [V, V]; a transition with probability 0 is banned
    motifs: Ints  # [c, k]
    offsets: Ints  # the place of each token of a motif, counted from its first token [c, k]
    length: int  # L
    quantisation: int  # q, the number of levels above 0 that a motif's share can have

    def feasible(self, tokens: Tokens) -> NDArray[np.bool_]:
        """Whether the chain can write each sequence [n, L]: [n]."""
        possible = (self.transition > 0)[tokens[:, :-1], tokens[:, 1:]].all(axis=1)
        return np.asarray((self.initial > 0)[tokens[:, 0]] & possible)

    def levels(self, tokens: Tokens) -> Ints:
        """The share of each motif that each sequence contains, as a multiple of 1/q: [n, c]."""
        k = self.motifs.shape[1]
        levels = np.empty((len(tokens), len(self.motifs)), np.int64)
        for i, (motif, offset) in enumerate(zip(self.motifs, self.offsets, strict=True)):
            places = np.arange(self.length - offset[-1])[:, None] + offset  # [places, k]
            found = (tokens[:, places] == motif).sum(axis=2)  # [n, places]
            levels[:, i] = found.max(axis=1) // (k // self.quantisation)
        return levels

    def value(self, tokens: Tokens) -> Floats:
        """The value of each sequence: [n], from 0 to 1, and -inf for an infeasible one."""
        value = (self.levels(tokens) / self.quantisation).prod(axis=1)
        return np.where(self.feasible(tokens), value, -np.inf)

    def reward(self, tokens: Tokens) -> NDArray[np.int8]:
        """1 for a sequence of value 1, else 0: [n]."""
        # Levels are whole numbers, so this compares exactly. A product of floats could miss 1.
        whole: NDArray[np.bool_] = (self.levels(tokens) == self.quantisation).all(axis=1)
        return (whole & self.feasible(tokens)).astype(np.int8)

    def witness(self) -> Tokens:
        """The motifs one after another [L]. The gaps repeat the token before them, because repeats are never banned."""
        ends = np.cumsum(self.offsets[:, -1] + 1)
        starts = np.concatenate(([0], ends[:-1]))
        where = (starts[:, None] + self.offsets).ravel()
        row: Tokens = self.motifs.ravel()[np.searchsorted(where, np.arange(self.length), side="right") - 1]
        return row

    def successes(self) -> Tokens | None:
        """Every sequence of value 1 in lexicographic order [N, L]; None if they are too many to list."""
        # A layout fixes the tokens of the motifs. What the chain can write in the gaps is first counted and then listed, so
        # that a function with too many successes is given up before they fill the memory.
        layouts = self._layouts()
        if layouts is None:
            return None
        possible = self.transition > 0
        fits = (layouts[:, :, None] == -1) | (layouts[:, :, None] == np.arange(len(possible)))  # [m, L, V]
        ways = fits.astype(np.float64)  # how many endings each layout has after each token at each position
        for t in range(self.length - 2, -1, -1):
            ways[:, t] *= ways[:, t + 1] @ possible.T
        ways[:, 0] *= self.initial > 0
        if ways[:, 0].sum() > ENUMERABLE:
            return None
        layout, token = np.nonzero(ways[:, 0])
        rows = token[:, None]
        for t in range(1, self.length):
            parent, token = np.nonzero((ways[layout, t] > 0) & possible[rows[:, -1]])
            layout, rows = layout[parent], np.concatenate((rows[parent], token[:, None]), axis=1)
        # A sequence can hold its motifs in several layouts and is then found several times.
        return np.unique(rows, axis=0)

    def _layouts(self) -> Ints | None:
        """Every way for the motifs to lie in a sequence [m, L], with -1 for any token; None if there are too many ways."""
        places = self.length - self.offsets[:, -1]
        if places.prod(dtype=np.float64) > LAYOUTS:
            return None
        starts = np.indices(tuple(places.tolist())).reshape(len(places), -1).T  # [m, c]
        layouts = np.full((len(starts), self.length), -1)
        # Motifs may overlap, but only where they want the same token.
        agree, every = np.ones(len(starts), bool), np.arange(len(starts))
        for start, motif, offset in zip(starts.T, self.motifs, self.offsets, strict=True):
            for token, at in zip(motif, offset, strict=True):
                agree &= np.isin(layouts[every, start + at], (-1, token))
                layouts[every, start + at] = token
        return layouts[agree]

    def digest(self) -> str:
        """SHA-256 over everything that decides the value."""
        sizes = np.array([self.length, self.quantisation])
        parts = (self.initial, self.transition, self.motifs, self.offsets, sizes)
        return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def draw(
    vocabulary: int, length: int, motifs: int, motif_length: int, quantisation: int, rng: np.random.Generator
) -> Ehrlich:
    """A random function by pytorch-holo's recipe, with NumPy's random numbers. `Ehrlich.witness` has value 1.

    Raises:
        BadValue: no solvable function has these sizes.
    """
    check_sizes(vocabulary, length, motifs, motif_length, quantisation)
    transition = _random_chain(vocabulary, rng)
    stationary = np.linalg.matrix_power(transition, 10_000)[0]
    written = [int(rng.choice(vocabulary, p=stationary / stationary.sum()))]
    # All motifs are one walk of the chain, so that they can follow each other and a success exists.
    while len(written) < motifs * motif_length:
        written.append(int(rng.choice(vocabulary, p=transition[written[-1]])))
    slack = (length - motifs * motif_length) // motifs
    shares = rng.dirichlet(np.ones(motif_length - 1), motifs)  # [c, k - 1]
    distances = 1 + np.floor(slack * shares).astype(np.int64)
    return Ehrlich(
        initial=np.full(vocabulary, 1 / vocabulary),
        transition=transition,
        motifs=np.array(written).reshape(motifs, motif_length),
        offsets=np.concatenate((np.zeros((motifs, 1), np.int64), distances.cumsum(axis=1)), axis=1),
        length=length,
        quantisation=quantisation,
    )


def check_sizes(vocabulary: int, length: int, motifs: int, motif_length: int, quantisation: int) -> None:
    """Check sizes; BadValue, with the limit, if no Ehrlich function has them."""
    if not 2 <= vocabulary <= len(LETTERS):
        raise BadValue(f"vocabulary is {vocabulary}; an Ehrlich function has 2 to {len(LETTERS)} tokens")
    if motifs < 1 or motif_length < 2:
        raise BadValue(f"{motifs} motifs of {motif_length} tokens; there must be at least 1 of at least 2")
    if length < motifs * motif_length:
        need = motifs * motif_length
        raise BadValue(f"length is {length}; {motifs} motifs of {motif_length} tokens need at least {need}")
    if not 1 <= quantisation <= motif_length or motif_length % quantisation:
        raise BadValue(f"quantisation is {quantisation}; it must divide the motif length, {motif_length}")


def _random_chain(V: int, rng: np.random.Generator) -> Floats:
    """A transition matrix [V, V]. It bans some successors of each token, never the token itself, and has no dead end."""
    reach = int(V * BAND)
    while True:
        scores = np.exp(rng.normal(size=(V, V)) / HOT)
        away = np.abs(np.subtract.outer(np.arange(V), np.arange(V)))
        band = np.minimum(away, V - away) <= reach
        possible = band[rng.permutation(V)] | np.eye(V, dtype=bool)
        if np.linalg.matrix_power(possible.astype(np.float64), V).all():  # every token can be reached from every token
            chain = np.where(possible, scores, 0.0)
            return np.asarray(chain / chain.sum(axis=1, keepdims=True))


def _grammar(start: NDArray[np.bool_], possible: NDArray[np.bool_]) -> Automaton:
    """The chain's bans as a grammar.

    Args:
        start: which tokens may be the first [V].
        possible: which tokens may follow token i, in row i [V, V].
    """
    following = np.tile(np.arange(1, len(start) + 1), (len(start) + 1, 1))  # state i + 1: the last token is i
    return Automaton(np.concatenate((start[None], possible)).astype(np.int8), following)


def _printer(possible: NDArray[np.bool_], tokens: Tokens) -> str:
    """The sequence, with a ^ below each token that may not follow the one before it."""
    marks = " " + "".join(" ^"[not ok] for ok in possible[tokens[:-1], tokens[1:]])
    return "".join(LETTERS[t] for t in tokens) + ("\n" + marks if "^" in marks else "")


def _task(id: str, function: Ehrlich, base: Callable[[], Policy], digest: str) -> Task:
    start, possible = function.initial > 0, function.transition > 0
    problem = Problem(
        id=id,
        vocabulary=tuple(LETTERS[: len(start)]),
        horizon=function.length,
        budget=BUDGET,
        base=base,
        allowed=_grammar(start, possible),
        printer=partial(_printer, possible),
    )
    return Task(problem, function.reward, cache(function.successes), function.witness, digest=digest, family="dial")


def ehrlich(
    vocabulary: int = 8,
    length: int = 10,
    motifs: int = 2,
    motif_length: int = 3,
    quantisation: int | None = None,
    seed: int = 0,
) -> Task:
    """An Ehrlich task of any size, drawn from its seed. The registered ids are other functions, which pytorch-holo drew.

    Args:
        vocabulary: V, 2 to 62.
        length: L, at least motifs x motif_length.
        motifs: c.
        motif_length: k, at least 2.
        quantisation: q, which divides k; k by default. It changes the values below 1, and not which sequences succeed.
        seed: the function and the base policy's untrained weights are drawn from it.

    Returns:
        A task. Its `successes()` is None if they are too many to list.

    Raises:
        BadValue: no solvable function has these sizes. The message gives the limit.
    """
    q = motif_length if quantisation is None else quantisation
    function = draw(vocabulary, length, motifs, motif_length, q, np.random.default_rng([seed, 0]))
    id = f"banel/Ehrlich.V{vocabulary}.L{length}.c{motifs}.k{motif_length}.q{q}.s{seed}-v0"
    base = partial(_chain_policy, function.initial, function.transition, length, seed)
    return _task(id, function, base, function.digest())


def _chain_policy(initial: Floats, transition: Floats, length: int, seed: int) -> Policy:
    try:
        from banel_envs.policies.networks.markov_transformer import chained_policy
    except ModuleNotFoundError as error:
        raise MissingExtra(f"the base policy needs {error.name}: pip install 'banel-envs[torch]'") from error
    return chained_policy(initial, transition, length, np.random.default_rng([seed, 1]))


def registered_function(name: str) -> Ehrlich:
    """The function of a registered id by its short name: easy, v0 or hard."""
    with np.load(asset(FUNCTIONS)) as file:
        arrays = {field: file[f"{name}_{field}"] for field in ("initial", "transition", "motifs", "offsets", "sizes")}
    length, quantisation = (int(size) for size in arrays.pop("sizes"))
    return Ehrlich(**arrays, length=length, quantisation=quantisation)


def base_name(name: str) -> str:
    """The file of a registered id's base policy."""
    return f"ehrlich_base_{name}.safetensors"


def _build(id: str, name: str) -> Task:
    base = base_name(name)
    return _task(id, registered_function(name), partial(shipped_policy, base), combined_digest(FUNCTIONS, base))


def build_easy() -> Task:
    """EhrlichEasy-v0."""
    return _build("banel/EhrlichEasy-v0", "easy")


def build_v0() -> Task:
    """Ehrlich-v0."""
    return _build("banel/Ehrlich-v0", "v0")


def build_hard() -> Task:
    """EhrlichHard-v0."""
    return _build("banel/EhrlichHard-v0", "hard")
