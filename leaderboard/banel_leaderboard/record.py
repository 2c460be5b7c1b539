"""RunRecord: what one run measured, as strict JSON. Written by the harness, never by an agent.

Everything but `execution` is a function of (package, task, agent, config, seed, feedback, budget, processor kind):
the same run gives the same record but for that block. What can be derived (final, best, mixture) is derived, not stored.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from banel_envs import kernel
from banel_envs.errors import BanelError
from banel_envs.success import SuccessRate

SCHEMA: Literal[1] = 1


class RecordError(BanelError):
    """A record is missing, of another schema or not valid."""


class Strict(BaseModel):
    """No unknown field, no conversion, no change after the fact."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Rate(Strict):
    """A success rate in log10; `log10` and `low` are null where it is zero or only its upper limit `high` is known."""

    log10: float | None
    low: float | None  # 95% interval
    high: float | None
    method: Literal["exact", "filtered", "monte_carlo", "importance", "upper_limit", "asked"]
    samples: int
    effective: float | None  # effective number of distinct successes, where exact
    zero: bool

    @classmethod
    def of(cls, rate: SuccessRate) -> Rate:
        """The harness's measurement as a record holds it."""
        return cls(
            log10=rate.log10,
            low=rate.low,
            high=rate.high,
            method=rate.method,
            samples=rate.samples,
            effective=rate.effective,
            zero=rate.zero,
        )


class Point(Strict):
    """One place of the evaluation grid: the last policy yielded at or before it."""

    nre: int  # sequences asked when the policy was measured against the grid
    success: Rate  # probability that a sample is a success
    fresh: Rate  # that it is a success not yet asked in this run
    invalid: float | None  # share of malformed sequences among those asked since the point before; null if none were
    repeated: float | None  # share of sequences asked before in this run, likewise


class LedgerMark(Strict):
    """What binds the record to its ledger: a cut or changed ledger does not fit."""

    head: str
    lines: int
    count: int  # sequences asked


class Work(Strict):
    """Tokens, evaluation by the harness not counted."""

    sampled: int
    scored: int
    trained: int


class Execution(Strict):
    """What differs from one execution of the same run to the next."""

    wall_s: float  # the agent's own time, evaluation by the harness not counted
    cpu_s: float
    evaluation_s: float  # the harness's, beside it
    peak_memory_mb: float
    resumed: int  # times the run was killed and taken up again
    threads: int
    processor: str
    versions: dict[str, str]

    @property
    def kernel(self) -> str:
        """What computed the steps of transformers; runs from before there was a choice took PyTorch."""
        return self.versions.get("kernel", kernel.TORCH)


class RunRecord(Strict):
    """One run: task x agent x feedback x seed."""

    schema_number: Literal[1]
    task: str
    digest: str  # of the task's assets
    agent: str
    config: dict[str, Any]
    tuned: bool  # whether the config differs from the agent's default
    seed: int
    feedback: Literal["full", "failures"]
    twin: bool  # oracle-free: told "failure" for everything, paying no NRE
    budget: int
    off_board: bool  # whether the budget is not the task's own, or answers were inherited
    inherits: str | None = None  # head of the old ledger whose answers were taken over
    points: list[Point]
    first_success: int | None  # NRE at which the first success was asked; null: censored at the budget
    successes_asked: int
    errors: int = 0  # sequences that count as failures because the reward raised on them (`Task.on_error`)
    ledger: LedgerMark
    policy_sha256: str | None  # of final.safetensors; null where the policy has no stored form
    reported: dict[str, list[tuple[int, float]]]  # (NRE, value) the agent told about itself; never on the board
    work: Work
    execution: Execution

    def canonical(self) -> str:
        """The record without `execution`: equal for equal runs."""
        return json.dumps(self.model_dump(mode="json", exclude={"execution"}), sort_keys=True)

    def final(self, rate: Literal["success", "fresh"] = "success") -> float:
        """log10 of the rate at the budget; -inf for zero."""
        return _log10(getattr(self.points[-1], rate))

    def best(self, rate: Literal["success", "fresh"] = "success") -> float:
        """log10 of the highest rate on the grid: hindsight."""
        return max(_log10(getattr(p, rate)) for p in self.points)

    def mixture(self, rate: Literal["success", "fresh"] = "success") -> float:
        """log10 of the mean rate over the grid: what a uniform mixture of its policies scores."""
        rates = [10 ** _log10(getattr(p, rate)) for p in self.points]
        mean = float(np.mean(rates))
        return math.log10(mean) if mean > 0 else -math.inf

    def write(self, path: Path) -> None:
        """Write whole or not at all."""
        draft = path.with_suffix(".tmp")
        draft.write_text(self.model_dump_json(indent=1) + "\n")
        draft.replace(path)

    @classmethod
    def load(cls, path: Path) -> RunRecord:
        """Read and validate.

        Raises:
            RecordError: missing, of another schema, or a field is missing, unknown or of the wrong type.
        """
        try:
            return cls.model_validate_json(path.read_text())
        except OSError as error:
            raise RecordError(f"{path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise RecordError(f"{path} is not a record of schema {SCHEMA}: {where}: {first['msg']}") from error


def _log10(rate: Rate) -> float:
    return -math.inf if rate.log10 is None else rate.log10
