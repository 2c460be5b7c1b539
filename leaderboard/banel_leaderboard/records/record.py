"""RunRecord: what one run measured, as strict JSON. The harness writes it, never an agent.

The block `execution` describes one execution of the run. Everything else in a record follows from the package, the task,
the agent, its settings, the seed, the feedback, the budget and the kind of processor, so the same run gives the same
values again. Numbers that follow from others (final, best, mixture) are computed when they are needed and not stored.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from banel_agents.base import AsksFrom
from banel_agents.limits import MOST_SERIES
from banel_envs import kernel
from banel_envs.binomial import clopper_pearson
from banel_envs.errors import BadJson, BanelError, FileRefused
from banel_envs.files import safe_files, strict_json
from banel_envs.files.visible import shown, visible
from banel_envs.measure.success import SuccessRate
from banel_envs.meter.oracle import Feedback
from banel_envs.problem import MOST_BUDGET
from banel_leaderboard.records.field_limits import (
    MOST_NAME,
    MOST_REPORTED,
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

Schema = Literal[1]
SCHEMA: Schema = 1
MOST_POINTS = 256  # points of a curve that a record may hold; the harness measures 16
LEAST_UNASKED = -3.0  # log10: with less mass than that left, the next-question rate would be the rounding of a sum
Told = Annotated[list[tuple[Count, float]], Field(max_length=MOST_REPORTED)]
End: TypeAlias = Literal["low", "high"]


class RecordError(BanelError):
    """A record is missing, has another schema or is not valid."""


class Strict(BaseModel):
    """A model without unknown fields, without conversion of types, and without changes after it was made."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def model_post_init(self, _: Any) -> None:
        """Let all objects whose fields were all given share the set of these; each with its own, it is half of their memory."""
        every = _EVERY.get(type(self))
        if every is None:
            every = _EVERY[type(self)] = set(type(self).model_fields)
        if self.__pydantic_fields_set__ == every:
            object.__setattr__(self, "__pydantic_fields_set__", every)


_EVERY: dict[type[Any], set[str]] = {}
Model = TypeVar("Model", bound=Strict)


class Rate(Strict):
    """A success rate in log10.

    If `log10` is a number, it is the rate. If `log10` is null and `zero` is false, no number is known, only that the rate
    lies between `low` and `high`. If `zero` is true, the rate is zero (then `high` is null too), or nothing but the upper
    end `high` is known.
    """

    log10: Log10 | None
    low: Log10 | None  # the lower end of the 95% interval
    high: Log10 | None  # its upper end
    method: Literal["exact", "filtered", "monte_carlo", "importance", "certified", "upper_limit", "asked"]
    samples: Tokens
    effective: Amount | None  # effective successes; only where the rate is exact
    zero: bool

    @classmethod
    def of(cls, rate: SuccessRate) -> Rate:
        """The rate that the harness measured, in the form that a record holds."""
        return cls(
            log10=rate.log10,
            low=rate.low,
            high=rate.high,
            method=rate.method,
            samples=rate.samples,
            effective=rate.effective,
            zero=rate.zero,
        )

    @classmethod
    def asked(cls, answers: NDArray[np.int8]) -> Rate:
        """Of a paid oracle: the share of successes among answers [n], with its Clopper-Pearson interval."""
        n, k = len(answers), int((answers == 1).sum())
        low, high = clopper_pearson(k, n) if n else (0.0, 1.0)
        return cls(
            log10=math.log10(k / n) if k else None,
            low=math.log10(low) if k else None,
            high=math.log10(high),
            method="asked",
            samples=n,
            effective=None,
            zero=k == 0,
        )

    def at(self, end: End = "low") -> float:
        """The rate as a number; where no number is known, the end `end` of its interval; -inf for zero."""
        value = self.log10 if self.log10 is not None else getattr(self, end)
        return -math.inf if value is None else float(value)


class Point(Strict):
    """The measurement at one NRE of the grid, of the last policy that was yielded at or before it."""

    nre: Count  # the NRE of the grid
    success: Rate  # the success rate: the probability that a sample is a success
    fresh: Rate  # the fresh success rate: the probability that it is a success not yet asked in this run
    # Both shares are of the sequences that were asked since the last point; null if none were asked.
    invalid: Share | None  # share of malformed sequences
    repeated: Share | None  # share of sequences that were asked before in this run


class LedgerMark(Strict):
    """Which ledger belongs to the record. A ledger that was cut or changed has another head."""

    head: Sha256  # the hash of the ledger's last line
    lines: Annotated[int, Field(ge=0, le=10 * MOST_BUDGET)]
    count: Count  # the NRE: how many sequences the ledger holds


class Work(Strict):
    """How many tokens the agent's policies computed. The measurements of the harness are not counted."""

    sampled: Tokens
    scored: Tokens
    trained: Tokens


class Execution(Strict):
    """What may differ between two executions of the same run."""

    wall_s: Amount  # seconds of the agent itself, without the measurements of the harness
    cpu_s: Amount  # CPU seconds, counted in the same way
    # Seconds of the harness's measurements: all seconds minus the agent's. Two clocks differ, so it can be just below 0.
    evaluation_s: Annotated[float, Field(ge=-1e18, le=1e18)]
    peak_memory_mb: Amount
    resumed: Count  # how often the run was killed and resumed
    threads: Count
    processor: Text
    versions: Annotated[dict[Version, Text], Field(max_length=MOST_NAME)]

    @property
    def kernel(self) -> str:
        """What computed the steps of transformers. Old records do not say it; at that time it was always PyTorch."""
        return self.versions.get("kernel", kernel.TORCH)


class RunRecord(Strict):
    """What was measured in one run: one agent on one task with one seed under one regime."""

    schema_number: Schema
    task: TaskName
    digest: Digest  # of the task's assets
    agent: AgentName
    config: Config
    tuned: bool  # whether the config differs from the agent's default
    seed: Seed
    feedback: Feedback
    twin: bool  # whether it is an oracle-free twin: told "failure" for everything and charged nothing
    budget: Annotated[int, Field(ge=1, le=MOST_BUDGET)]
    off_board: bool  # whether the budget is not the task's own, or answers were inherited
    inherits: Sha256 | None = None  # the head of the old ledger whose answers this run inherited
    asks_from: AsksFrom | None = (
        None  # which policy the agent says it asks samples of; null where it does not say, or old
    )
    tolerance: Amount | None = None
    """Nats by which a log-probability of its policies may differ if it is computed again; null where it is no more than usual."""
    points: Annotated[list[Point], Field(max_length=MOST_POINTS)]
    unasked: Log10 | None = (
        None  # log10 of the final policy's mass not yet asked; null where its rate is not exact, or old
    )
    first_success: Count | None  # the NRE at which the first success was asked; null if the run met none
    successes_asked: Count  # repeats included
    errors: Count = 0  # sequences that count as failures because the reward raised on them (`Task.on_error`)
    ledger: LedgerMark
    policy_sha256: Sha256 | None  # of final.safetensors; null where the policy has no stored form
    reported: Annotated[dict[Series, Told], Field(max_length=MOST_SERIES)]
    """What the agent reported about itself: series of (NRE, value) by name. The board does not show it."""
    work: Work
    execution: Execution

    def canonical(self) -> str:
        """The record without `execution`, as one text that is equal for equal runs, and for old records what it was."""
        left_out = {"execution", *(name for name in ("asks_from", "tolerance") if getattr(self, name) is None)}
        return json.dumps(self.model_dump(mode="json", exclude=left_out), sort_keys=True)

    def next_question(self) -> float | None:
        """The log10 of the next-question rate: final fresh success over the mass not yet asked; -inf for zero.

        It is -inf too where less than LEAST_UNASKED of the mass is left, and None where the record does not hold it.
        """
        if self.unasked is None:
            return None
        return self.final("fresh") - self.unasked if self.unasked >= LEAST_UNASKED else -math.inf

    def final(self, rate: Literal["success", "fresh"] = "success", end: End = "low") -> float:
        """The log10 of the rate at the budget; -inf for zero; the end `end` where only an interval is known."""
        last: Rate = getattr(self.points[-1], rate)
        return last.at(end)

    def best(self, rate: Literal["success", "fresh"] = "success", end: End = "low") -> float:
        """The log10 of the highest rate on the curve, in the same form. It is chosen in hindsight."""
        return max(self._rates(rate, end))

    def mixture(self, rate: Literal["success", "fresh"] = "success", end: End = "low") -> float:
        """The log10 of the mean rate of the curve, in the same form. An even mixture of its policies has this rate."""
        mean = float(np.mean([10**value for value in self._rates(rate, end)]))
        return math.log10(mean) if mean > 0 else -math.inf

    def _rates(self, rate: Literal["success", "fresh"], end: End) -> list[float]:
        return [getattr(p, rate).at(end) for p in self.points]

    def write(self, path: Path) -> None:
        """Write the whole file or nothing."""
        safe_files.write(path, (self.model_dump_json(indent=1) + "\n").encode(), path.with_suffix(".tmp"))

    @classmethod
    def load(cls, path: Path, *, below: Path | None = None) -> RunRecord:
        """Read and validate a record.

        Args:
            path: the record's file.
            below: as for safe_files.read.

        Raises:
            RecordError: the file is missing, is no regular file, is too large, is not JSON, repeats a key, or has another
                schema; or a field is missing, unknown, of the wrong type or too long.
        """
        try:
            return cls.parse(safe_files.read(path, safe_files.RECORD, below=below), path)
        except FileRefused as error:
            raise RecordError(str(error)) from error

    @classmethod
    def parse(cls, content: bytes, path: Path) -> RunRecord:
        """Validate the bytes of a record; `path` is what a RecordError calls it, see `load`."""
        return validated(cls, content, path, f"a record of schema {SCHEMA}", RecordError)


def validated(model: type[Model], content: bytes, path: Path, what: str, refusal: type[BanelError]) -> Model:
    """The bytes of a file as a strict model.

    Args:
        model: its class.
        content: UTF-8 JSON.
        path: what the error calls the file.
        what: what the file should be, in words.
        refusal: the error that is raised if it is not; it names the file, the field and its value.
    """
    try:
        strict_json.loads(content)
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = visible(".".join(map(str, first["loc"])), MOST_NAME)
        said = f"{where}: {visible(first['msg'])}, not {shown(first['input'])}"
        raise refusal(f"{path} is not {what}: {said}") from error
    except BadJson as error:
        raise refusal(f"{path} is not {what}: {error}") from error
