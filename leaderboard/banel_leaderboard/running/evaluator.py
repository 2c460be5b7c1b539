"""What the harness measures in a run: the policies at the NREs of the grid, and what the ledger says about the questions."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs import Ledger, Problem, Task
from banel_envs.errors import BadPolicy, BadValue, PolicyChanged
from banel_envs.measure.draws import check_draws
from banel_envs.measure.probability import ABSOLUTE, FALSE_ALARM, agree, tolerance
from banel_envs.measure.success import Scored, score
from banel_envs.measure.unasked import log10_unasked
from banel_envs.policies import COST, Policy, save_policy
from banel_envs.policies.mark import Mark
from banel_envs.policies.protocol import has_own_model
from banel_envs.policies.storage.store import as_stored
from banel_envs.policies.weights import bad_weight
from banel_envs.problem import Tokens
from banel_leaderboard.records.record import Point, Rate
from banel_leaderboard.records.verify import rewards_of

ALIKE = 64  # samples of a policy whose log-probabilities its ONNX model must give too
STEPS = 15  # a run is measured at NRE 0 and after each of so many equal steps of the budget


def grid(budget: int) -> list[int]:
    """The NREs at which a run of this budget is measured."""
    return sorted({round(k * budget / STEPS) for k in range(STEPS + 1)})


@dataclass
class Questions:
    """The sequences that were asked and their answers, read from the ledger."""

    problem: Problem
    tokens: Tokens  # [count, T]
    rewards: NDArray[np.int8]  # [count]: 1, 0, or -1 where there is no answer because the run was killed

    @classmethod
    def of(cls, problem: Problem, ledger: Ledger, read: list[Tokens] | None = None) -> Questions:
        """Every sequence of the ledger, in order.

        Args:
            problem: of the run.
            ledger: of the run.
            read: the sequences of the questions that were read before, which are not unpacked again; new ones are added.
        """
        read = [] if read is None else read
        read += [ledger.tokens(ask) for ask in ledger.asks[len(read) :]]
        tokens = np.concatenate([np.empty((0, problem.T), np.int64), *read])
        return cls(problem, tokens, rewards_of(ledger))

    def successes(self, nre: int) -> Tokens:
        """The successes among the first nre sequences."""
        hits: Tokens = self.tokens[:nre][self.rewards[:nre] == 1]
        return hits

    def first_success(self) -> int | None:
        """The NRE at which the first success was asked; None if there was none."""
        hits = np.flatnonzero(self.rewards == 1)
        return int(hits[0]) + 1 if len(hits) else None

    def invalid(self, low: int, high: int) -> float | None:
        """Share of the sequences low..high that are malformed; None without sequences or without a grammar."""
        rows = self.tokens[low:high]
        if len(rows) == 0 or self.problem.allowed is None:
            return None
        return float(1 - self.problem.well_formed(rows).mean())

    def repeated(self, low: int, high: int) -> float | None:
        """Share of the sequences low..high that were asked before in this run."""
        if high <= low or low >= len(self.tokens):
            return None
        return float(1 - self.new[low:high].mean())

    @cached_property
    def new(self) -> NDArray[np.bool_]:
        """Which sequences were not asked before in this run: [count]."""
        _, first = np.unique(self.tokens, axis=0, return_index=True)
        new = np.zeros(len(self.tokens), bool)
        new[first] = True
        return new


@dataclass(frozen=True)
class Yielded:
    """A policy as an agent yielded it."""

    policy: Policy
    mark: Mark
    where: str  # the agent and the NRE; error messages about the policy begin with it

    @classmethod
    def now(cls, policy: Policy, agent: str, nre: int) -> Yielded:
        """The policy as it is now; BadPolicy if it cannot be sampled or scored at all."""
        where = f"{agent}: its policy of NRE {nre}"
        try:
            return cls(policy, Mark.of(policy), where)
        except BadPolicy as error:
            raise error.of(f"{where} is no probability") from error


@dataclass
class Evaluator:
    """Measures the current policy whenever the run reaches an NRE of the grid.

    Measuring is never metered, and it draws from random streams of its own. Every policy is first checked to be a
    probability (banel_envs/measure/probability.py; also draws.py, where the rate is estimated from draws).
    """

    task: Task
    rng: np.random.Generator
    folder: Path  # the policies of the grid are stored here
    checks: np.random.Generator  # draws the sequences that policies are checked by; a stream of its own
    samples: int = 100_000  # Monte Carlo samples for one rate, where it is not exact and the task has no pool
    last: float = math.inf  # the last NRE of the grid; there, a task with a pool gets more samples
    points: list[tuple[int, Rate, Rate]] = field(default_factory=list)  # (NRE, success, fresh)
    unasked: float | None = None  # of the policy at the budget, see RunRecord.unasked
    tolerance: float | None = None  # the largest that a policy stated, see RunRecord.tolerance
    watchers: Sequence[Callable[[int, Rate, Rate], None]] = ()  # called with each point (see sinks.py)
    _scored: tuple[Policy, int | None, Scored] | None = None  # the last policy, its number of samples, its measurement
    _stored: tuple[Policy, Path] | None = None  # the last policy that was stored, and its file
    _rated: tuple[Scored, int, tuple[Rate, Rate]] | None = None  # the last measurement, known successes, its two rates
    _model: tuple[Policy, Policy] | None = None  # the last policy with a model of its own, and what the model computes
    _read: list[Tokens] = field(default_factory=list)  # see Questions.of
    _last: Yielded | None = None

    def measure(self, nre: int, current: Yielded, ledger: Ledger) -> None:
        """Add the point at this NRE: the success rate and the fresh success rate of a policy.

        Raises:
            PolicyChanged: the policy was changed after it was yielded.
            BadPolicy: the policy is no probability.
        """
        try:
            self._know(current)
            policy = self._measurable(current)
            if (stated := tolerance(policy)) > ABSOLUTE:
                self.tolerance = max(stated, self.tolerance or 0.0)
            with COST.paused():
                asked = Questions.of(self.task.problem, ledger, self._read)
                free = self.task.free_evaluation
                rates = self._rates(nre, policy, asked.successes(nre)) if free else (self._asked(asked, nre),) * 2
                if nre >= self.last and rates[0].method == "exact":
                    self.unasked = log10_unasked(policy, asked.tokens, self.task.problem)
        except PolicyChanged as error:
            raise error.of(f"{current.where} is another one at NRE {nre}") from error
        except BadPolicy as error:
            raise error.of(f"{current.where}, measured at NRE {nre}, is no probability") from error
        self.points.append((nre, *rates))
        self._store(nre, policy)
        for watch in self.watchers:
            watch(nre, *rates)

    def _know(self, current: Yielded) -> None:
        """Check that the policy was not changed since it was yielded.

        An agent may yield one object twice and train it in between. What was measured of it as another policy is
        forgotten here.
        """
        policy, mark = current.policy, current.mark
        mark.check(policy)
        if (wrong := bad_weight(policy)) is not None:
            raise BadPolicy(f"{wrong}; train it with a smaller step")
        last, self._last = self._last, current
        if last is not None and last.policy is policy and last.mark is not mark and not last.mark.fits(policy):
            self._scored = self._stored = self._model = None

    def _measurable(self, current: Yielded) -> Policy:
        """The policy, or what its ONNX model computes where it is one of the agent's own that has such a model.

        Whoever checks the run later has only the model. In float32 that gives other last digits than the policy itself, so
        the model is what is measured, after a check that both are the same policy.
        """
        policy = current.policy
        if not has_own_model(policy):
            return policy
        if self._model is None or self._model[0] is not policy:
            try:
                made = as_stored(policy)
            except ValueError as error:  # BadValue is one
                raise BadPolicy(f"its stored form is refused: {error}") from error
            tokens = policy.sample(ALIKE, np.random.default_rng(0))
            agree(made.log_prob(tokens), policy.log_prob(tokens), "its ONNX model gives its own samples other nats")
            self._model = (policy, made)
        return self._model[1]

    def curve(self, questions: Questions) -> list[Point]:
        """The curve, with the shares of malformed and repeated questions."""
        places = [nre for nre, _, _ in self.points]
        return [
            Point(
                nre=nre,
                success=success,
                fresh=fresh,
                invalid=questions.invalid(before, nre),
                repeated=questions.repeated(before, nre),
            )
            for before, (nre, success, fresh) in zip([0, *places], self.points, strict=False)
        ]

    def _rates(self, nre: int, policy: Policy, known: Tokens) -> tuple[Rate, Rate]:
        """Success and fresh success. A policy that did not change is not measured again, unless more samples are due."""
        pool = self.task.pool()
        samples = self.samples if pool is None else pool.final if nre >= self.last else pool.samples
        # `is not`, because two policies may compare equal, and only the same object has certainly the same weights (_know).
        if self._scored is None or self._scored[0] is not policy or self._scored[1] != samples:
            scored = score(self.task, policy, self.rng, samples, known)
            exact = scored.log_probs is not None
            alarm = FALSE_ALARM / (STEPS + 1)
            check_draws(policy, self.task.problem, self.checks, alarm, normalisers_only=exact, most=samples)
            self._scored = (policy, samples, scored)
        scored = self._scored[2]
        # The known successes are those of the ledger so far, so as many as before are the same ones.
        if self._rated is None or self._rated[0] is not scored or self._rated[1] != len(known):
            success = Rate.of(scored.rate())
            self._rated = (scored, len(known), (success, Rate.of(scored.rate(known)) if len(known) else success))
        return self._rated[2]

    def _asked(self, questions: Questions, nre: int) -> Rate:
        """For a paid oracle: the share of successes among the sequences that were asked since the last point."""
        before = self.points[-1][0] if self.points else 0
        return Rate.asked(questions.rewards[before:nre])

    def _store(self, nre: int, policy: Policy) -> None:
        """Store the policy as grid/<nre>.safetensors. If it did not change, this is a link to the file before."""
        path = self.folder / f"{nre:07d}.safetensors"
        path.unlink(missing_ok=True)  # a resumed run finds the files of its first part, which may be links
        if self._stored is not None and self._stored[0] is policy:
            os.link(self._stored[1], path)
            return
        try:
            save_policy(path, policy)
        except BadValue:  # the policy has no stored form; its digest in the record is then null
            return
        self._stored = (policy, path)


def as_json(config: Any) -> dict[str, Any]:
    """An agent's settings, a dataclass, as a record and a ledger hold them."""
    import dataclasses

    return dataclasses.asdict(config) if dataclasses.is_dataclass(config) and not isinstance(config, type) else {}
