"""Sinks: they show the points of a run's curve while the run goes on.

`--log tensorboard:DIR` and `--log wandb:PROJECT` set the variable BANEL_LOG, which the processes of a sweep inherit. A sink
shows the same measurements that go into the record, and it changes nothing in the run. If a sink fails, it gives one
warning and shows no more; the run goes on.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from banel_envs.errors import BadValue, MissingExtra
from banel_envs.variables import set_variable
from banel_leaderboard.records.record import Rate

VARIABLE = "BANEL_LOG"  # holds the sinks, separated by commas
Watcher = Callable[[int, Rate, Rate], None]
"""Called with each point as it is measured: NRE, success, fresh success."""


class Sink(Protocol):
    """Shows one run."""

    def point(self, nre: int, values: dict[str, float]) -> None:
        """Show the values of one point."""
        ...

    def close(self) -> None:
        """Write what has not been written yet."""
        ...


class TensorBoard:
    """Writes event files for `tensorboard --logdir DIR`, one folder for each run."""

    def __init__(self, where: str, name: str, config: dict[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # A resumed run measures its points again, so everything that an earlier attempt wrote is replaced.
        self.writer = SummaryWriter(str(Path(where) / name), purge_step=0)
        self.writer.add_text("config", "\n".join(f"    {key}: {value}" for key, value in config.items()))

    def point(self, nre: int, values: dict[str, float]) -> None:
        """Write the values as scalars over NRE."""
        for key, value in values.items():
            self.writer.add_scalar(key, value, nre)
        self.writer.flush()

    def close(self) -> None:
        """End the file."""
        self.writer.close()


class WeightsAndBiases:
    """Writes a run of a Weights & Biases project. Nothing leaves the machine unless WANDB_MODE asks for it."""

    def __init__(self, where: str, name: str, config: dict[str, Any]) -> None:
        wandb = importlib.import_module("wandb")
        mode = os.environ.get("WANDB_MODE", "offline")
        self.run = wandb.init(project=where, name=name, config=config, mode=mode, reinit=True)

    def point(self, nre: int, values: dict[str, float]) -> None:
        """Log the values as metrics over NRE."""
        self.run.log(values, step=nre)

    def close(self) -> None:
        """End the run."""
        self.run.finish()


SINKS: dict[str, tuple[type[Any], str, str]] = {
    "tensorboard": (TensorBoard, "tensorboard", "pip install 'banel-envs[tensorboard]'"),
    "wandb": (WeightsAndBiases, "wandb", "pip install wandb"),
}
"""The first word of a sink -> its class, the package that it needs, and how to install that package."""


def parse(text: str) -> list[tuple[str, str]]:
    """The two parts, (word, where), of each sink in a text such as `tensorboard:logs,wandb:my-project`.

    Raises:
        BadValue: the first part is not in SINKS, or nothing follows the colon.
        MissingExtra: the package that a sink needs is not installed.
    """
    sinks = []
    for part in filter(None, text.split(",")):
        word, _, where = part.partition(":")
        if word not in SINKS or not where:
            raise BadValue(f"--log is {part!r}; write tensorboard:DIR or wandb:PROJECT")
        _, package, install = SINKS[word]
        # Found before any run starts. Later the missing package would only be a warning, and nothing would be shown.
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(f"--log {part} needs {package}: {install}")
        sinks.append((word, where))
    return sinks


@contextlib.contextmanager
def inherited(parts: Sequence[str]) -> Iterator[None]:
    """Inside the `with` block, the runs that this process starts show their curves in these sinks, such as tensorboard:DIR.

    Raises:
        BadValue: a sink is not written as one.
        MissingExtra: its package is not installed.
    """
    text = ",".join(parts)
    parse(text)
    with set_variable(VARIABLE, text) if parts else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def watching(name: str, config: dict[str, Any]) -> Iterator[list[Watcher]]:
    """The watchers that BANEL_LOG asks for, for one run. They are closed however the run ends.

    Args:
        name: the run's name: task, agent, regime and seed.
        config: the settings that are shown beside the curve.
    """
    guarded = [Guarded(word, where, name, config) for word, where in parse(os.environ.get(VARIABLE, ""))]
    try:
        yield [sink.show for sink in guarded]
    finally:
        for sink in guarded:
            sink.close()


class Guarded:
    """A sink that never stops a run: its first error becomes a warning, and from then on it shows nothing."""

    def __init__(self, word: str, where: str, name: str, config: dict[str, Any]) -> None:
        self.what = f"{word}:{where}"
        self.sink: Sink | None = None
        self.sink = self._try(lambda: SINKS[word][0](where, name, config))

    def show(self, nre: int, success: Rate, fresh: Rate) -> None:
        """Show one point. A rate that is zero or unknown is left out, because it has no logarithm."""
        values = {
            "success/log10": success.log10,
            "success/effective": success.effective,
            "fresh/log10": fresh.log10,
        }
        sink, known = self.sink, {key: value for key, value in values.items() if value is not None}
        if sink is not None:
            self._try(lambda: sink.point(nre, known))

    def close(self) -> None:
        """Close it."""
        if self.sink is not None:
            self._try(self.sink.close)

    def _try(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Exception as error:  # a full disk or a lost network must not stop the run
            warnings.warn(f"--log {self.what}: {type(error).__name__}: {error}; it shows no more", stacklevel=2)
            self.sink = None
            return None
