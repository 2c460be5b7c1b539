"""Sinks: where the points of a run's curve are shown while it goes on, beside its record.

`--log tensorboard:DIR` and `--log wandb:PROJECT` write the variable BANEL_LOG, which the processes of a sweep inherit. What a
sink shows comes from the measurement that goes into the record; it changes nothing in the run, and a sink that fails
ends itself with a warning and not the run.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from banel_envs.errors import BadValue, MissingExtra
from banel_leaderboard.records.record import Rate

VARIABLE = "BANEL_LOG"  # sinks, separated by commas
Watcher = Callable[[int, Rate, Rate], None]
"""Called with each point as it is measured: NRE, success, fresh success."""


class Sink(Protocol):
    """Shows one run."""

    def point(self, nre: int, values: dict[str, float]) -> None:
        """Show the values of one point."""
        ...

    def close(self) -> None:
        """Write what is still held back."""
        ...


class TensorBoard:
    """Event files for `tensorboard --logdir DIR`, a folder for each run."""

    def __init__(self, where: str, name: str, config: dict[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # A run that is taken up again measures its points again: what stands there from NRE 0 on is replaced.
        self.writer = SummaryWriter(str(Path(where) / name), purge_step=0)
        self.writer.add_text("config", "\n".join(f"    {key}: {value}" for key, value in config.items()))

    def point(self, nre: int, values: dict[str, float]) -> None:
        """Scalars over NRE."""
        for key, value in values.items():
            self.writer.add_scalar(key, value, nre)
        self.writer.flush()

    def close(self) -> None:
        """End the file."""
        self.writer.close()


class WeightsAndBiases:
    """A run of a Weights & Biases project; nothing leaves the machine unless WANDB_MODE says so."""

    def __init__(self, where: str, name: str, config: dict[str, Any]) -> None:
        wandb = importlib.import_module("wandb")
        mode = os.environ.get("WANDB_MODE", "offline")
        self.run = wandb.init(project=where, name=name, config=config, mode=mode, reinit=True)

    def point(self, nre: int, values: dict[str, float]) -> None:
        """Metrics over NRE."""
        self.run.log(values, step=nre)

    def close(self) -> None:
        """End the run."""
        self.run.finish()


KINDS: dict[str, tuple[type[Any], str, str]] = {
    "tensorboard": (TensorBoard, "tensorboard", "pip install 'banel-envs[tensorboard]'"),
    "wandb": (WeightsAndBiases, "wandb", "pip install wandb"),
}
"""kind -> the class, the package that it needs, and how to install that."""


def parse(text: str) -> list[tuple[str, str]]:
    """(kind, where) of each sink in a text such as `tensorboard:logs,wandb:my-project`.

    Raises:
        BadValue: a sink is of no known kind, or says nothing after the colon.
        MissingExtra: the package that it needs is not installed.
    """
    sinks = []
    for part in filter(None, text.split(",")):
        kind, _, where = part.partition(":")
        if kind not in KINDS or not where:
            raise BadValue(f"--log is {part!r}; write tensorboard:DIR or wandb:PROJECT")
        _, package, install = KINDS[kind]
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(f"--log {part} needs {package}: {install}")
        sinks.append((kind, where))
    return sinks


@contextlib.contextmanager
def watching(name: str, config: dict[str, Any]) -> Iterator[list[Watcher]]:
    """The watchers that BANEL_LOG asks for, for one run; they are closed however the run ends.

    Args:
        name: of the run: task, agent, regime and seed.
        config: what is shown beside it.
    """
    guarded = [Guarded(kind, where, name, config) for kind, where in parse(os.environ.get(VARIABLE, ""))]
    try:
        yield [sink.show for sink in guarded]
    finally:
        for sink in guarded:
            sink.close()


class Guarded:
    """A sink that never stops a run: what it raises becomes one warning, and it shows nothing more."""

    def __init__(self, kind: str, where: str, name: str, config: dict[str, Any]) -> None:
        self.what = f"{kind}:{where}"
        self.sink: Sink | None = None
        self.sink = self._try(lambda: KINDS[kind][0](where, name, config))

    def show(self, nre: int, success: Rate, fresh: Rate) -> None:
        """Show one point; a rate that is zero or unknown has no logarithm to show."""
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
        except Exception as error:  # a full disk, a network that is gone: none of it is the run's concern
            warnings.warn(f"--log {self.what}: {type(error).__name__}: {error}; it shows no more", stacklevel=2)
            self.sink = None
            return None
