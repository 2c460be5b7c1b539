"""RunRecord: what one run measured, as strict JSON. Written by the harness, never by an agent.

Everything but `execution` is a function of (package, task, agent, config, seed, feedback, budget, processor kind):
the same run gives the same record but for that block. What can be derived (final, best, mixture) is derived, not stored.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from banel_envs import kernel
from banel_envs.errors import BadJson, BanelError, FileRefused
from banel_envs.files import safe_files, strict_json
from banel_envs.measure.success import SuccessRate
from banel_envs.problem import MOST_BUDGET
from banel_envs.visible import shown, visible
from banel_leaderboard.records.field_limits import (
    MOST_NAME,
    MOST_REPORTED,
    MOST_SERIES,
    AgentName,
    Amount,
    Config,
    Count,
    Digest,
    Log10,
    Seed,
    Series,
    Sha256,
    Share,
    TaskName,
    Text,
    Tokens,
    Version,
)

SCHEMA: Literal[1] = 1
MOST_POINTS = 256  # of a curve; the harness measures 16
Told = Annotated[list[tuple[Count, float]], Field(max_length=MOST_REPORTED)]
End: TypeAlias = Literal["low", "high"]


class RecordError(BanelError):
    """A record is missing, of another schema or not valid."""


class Strict(BaseModel):
    """No unknown field, no conversion, no change after the fact."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Rate(Strict):
    """A success rate in log10: a number, or where `log10` is null and `zero` false only that it is from `low` to `high`.

    `zero`: it is zero (`high` null too), or nothing but its upper limit `high` is known.
    """

    log10: Log10 | None
    low: Log10 | None  # 95% interval
    high: Log10 | None
    method: Literal["exact", "filtered", "monte_carlo", "importance", "certified", "upper_limit", "asked"]
    samples: Tokens
    effective: Amount | None  # effective number of distinct successes, where exact
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

    def at(self, end: End = "low") -> float:
        """The number; where there is none, that end of the interval. -inf for zero."""
        value = self.log10 if self.log10 is not None else getattr(self, end)
        return -math.inf if value is None else float(value)


class Point(Strict):
    """One place of the evaluation grid: the last policy yielded at or before it."""

    nre: Count  # sequences asked when the policy was measured against the grid
    success: Rate  # probability that a sample is a success
    fresh: Rate  # that it is a success not yet asked in this run
    invalid: Share | None  # share of malformed sequences among those asked since the point before; null if none were
    repeated: Share | None  # share of sequences asked before in this run, likewise


class LedgerMark(Strict):
    """What binds the record to its ledger: a cut or changed ledger does not fit."""

    head: Sha256
    lines: Annotated[int, Field(ge=0, le=10 * MOST_BUDGET)]
    count: Count  # sequences asked


class Work(Strict):
    """Tokens, evaluation by the harness not counted."""

    sampled: Tokens
    scored: Tokens
    trained: Tokens


class Execution(Strict):
    """What differs from one execution of the same run to the next."""

    wall_s: Amount  # the agent's own time, evaluation by the harness not counted
    cpu_s: Amount
    evaluation_s: Annotated[
        float, Field(ge=-1e18, le=1e18)
    ]  # the harness's, beside it; two clocks, so below 0 by a little
    peak_memory_mb: Amount
    resumed: Count  # times the run was killed and taken up again
    threads: Count
    processor: Text
    versions: Annotated[dict[Version, Text], Field(max_length=MOST_NAME)]

    @property
    def kernel(self) -> str:
        """What computed the steps of transformers; runs from before there was a choice took PyTorch."""
        return self.versions.get("kernel", kernel.TORCH)


class RunRecord(Strict):
    """One run: task x agent x feedback x seed."""

    schema_number: Literal[1]
    task: TaskName
    digest: Digest  # of the task's assets
    agent: AgentName
    config: Config
    tuned: bool  # whether the config differs from the agent's default
    seed: Seed
    feedback: Literal["full", "failures"]
    twin: bool  # oracle-free: told "failure" for everything, paying no NRE
    budget: Annotated[int, Field(ge=1, le=MOST_BUDGET)]
    off_board: bool  # whether the budget is not the task's own, or answers were inherited
    inherits: Sha256 | None = None  # head of the old ledger whose answers were taken over
    points: Annotated[list[Point], Field(max_length=MOST_POINTS)]
    first_success: Count | None  # NRE at which the first success was asked; null: censored at the budget
    successes_asked: Count
    errors: Count = 0  # sequences that count as failures because the reward raised on them (`Task.on_error`)
    ledger: LedgerMark
    policy_sha256: Sha256 | None  # of final.safetensors; null where the policy has no stored form
    reported: Annotated[dict[Series, Told], Field(max_length=MOST_SERIES)]
    """(NRE, value) that the agent told about itself, by name; never on the board."""
    work: Work
    execution: Execution

    def canonical(self) -> str:
        """The record without `execution`: equal for equal runs."""
        return json.dumps(self.model_dump(mode="json", exclude={"execution"}), sort_keys=True)

    def final(self, rate: Literal["success", "fresh"] = "success", end: End = "low") -> float:
        """log10 of the rate at the budget; -inf for zero; where only an interval is known, that end of it."""
        return self._rates(rate, end)[-1]

    def best(self, rate: Literal["success", "fresh"] = "success", end: End = "low") -> float:
        """log10 of the highest rate on the grid, likewise: hindsight."""
        return max(self._rates(rate, end))

    def mixture(self, rate: Literal["success", "fresh"] = "success", end: End = "low") -> float:
        """log10 of the mean rate over the grid, likewise: what a uniform mixture of its policies scores."""
        mean = float(np.mean([10**value for value in self._rates(rate, end)]))
        return math.log10(mean) if mean > 0 else -math.inf

    def _rates(self, rate: Literal["success", "fresh"], end: End) -> list[float]:
        return [getattr(p, rate).at(end) for p in self.points]

    def write(self, path: Path) -> None:
        """Write whole or not at all."""
        safe_files.write(path, (self.model_dump_json(indent=1) + "\n").encode(), path.with_suffix(".tmp"))

    @classmethod
    def load(cls, path: Path, *, below: Path | None = None) -> RunRecord:
        """Read and validate; `below` as for safe_files.read.

        Raises:
            RecordError: missing, no regular file, too large, not JSON of one meaning, of another schema, or a field is
                missing, unknown, of the wrong type or too long.
        """
        try:
            return cls.parse(safe_files.read(path, safe_files.RECORD, below=below), path)
        except FileRefused as error:
            raise RecordError(str(error)) from error

    @classmethod
    def parse(cls, content: bytes, path: Path) -> RunRecord:
        """Validate the bytes of a record; `path` is what a RecordError calls it, see `load`."""
        try:
            strict_json.loads(content)
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            where = visible(".".join(map(str, first["loc"])), MOST_NAME)
            said = f"{where}: {visible(first['msg'])}, not {shown(first['input'])}"
            raise RecordError(f"{path} is not a record of schema {SCHEMA}: {said}") from error
        except BadJson as error:
            raise RecordError(f"{path} is not a record: {error}") from error
