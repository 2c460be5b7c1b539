"""What the speed sections share: interleaved timing, ratios within one run, and the lines of the table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Work = Callable[[], object]

WIDTHS = (40, 42, 50, 22)  # of the table's columns; the last one is free
HEADINGS = ("", "here (median, range)", "against", "ratio")


@dataclass(frozen=True)
class Bar:
    """What a figure has to reach."""

    value: float
    at_most: bool = False  # the figure must not be above it, rather than not below

    def verdict(self, figure: float, unit: str) -> str:
        """`bar 4 times: met`."""
        met = figure <= self.value if self.at_most else figure >= self.value
        return f"bar {'<=' if self.at_most else '>='} {self.value:g}{unit}: {'met' if met else 'MISSED'}"


def interleaved(works: Mapping[str, Work], repeats: int, warm: bool = True) -> dict[str, list[float]]:
    """Wall seconds of each repeat of each work, one after another within every round."""
    if warm:
        for work in works.values():
            work()
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - start)
    return taken


def ratios(slow: list[float], fast: list[float]) -> list[float]:
    """How many times as long the one took as the other, round by round."""
    return [a / b for a, b in zip(slow, fast, strict=True)]


def spread(values: list[float], form: str = ".3g") -> str:
    """Median and range."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def rates(seconds: list[float], units: int) -> list[float]:
    """Units a second."""
    return [units / s for s in seconds]


def clear(seconds: list[float]) -> str:
    """Seconds as text, in the unit that reads best."""
    middle = statistics.median(seconds)
    factor, unit = (1, "s") if middle >= 1 else (1e3, "ms") if middle >= 1e-3 else (1e6, "us")
    return f"{spread([s * factor for s in seconds])} {unit}"


def line(*cells: str) -> None:
    """One line of the table: what, here, against, ratio, bar."""
    padded = [cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=False)]
    print("  ".join([*padded, *cells[len(WIDTHS) :]]).rstrip(), flush=True)


def compare(
    what: str, taken: Mapping[str, list[float]], here: str, units: int, unit: str, bars: Mapping[str, Bar] | None = None
) -> None:
    """A line for each rival of `here`: both rates, the ratio, and the bar where there is one."""
    for name, seconds in taken.items():
        if name == here:
            continue
        times = ratios(seconds, taken[here])
        bar = (bars or {}).get(name)
        line(
            what,
            f"{spread(rates(taken[here], units))} {unit}/s",
            f"{name}: {spread(rates(seconds, units))}",
            spread(times),
            "" if bar is None else bar.verdict(statistics.median(times), " times"),
        )


def matrix_rate(shapes: Mapping[tuple[int, int], int], rows: int, repeats: int = 5) -> list[float]:
    """Floating-point operations a second of bare float32 products [rows, a] x [a, b], each shape as often as it counts."""
    pairs = [
        (torch.randn(rows, a), torch.randn(a, b), torch.empty(rows, b))
        for (a, b), count in shapes.items()
        for _ in range(count)
    ]
    operations = sum(2 * rows * left.shape[1] * right.shape[1] for left, right, _ in pairs)
    loops = max(1, int(2e9 / operations))

    def work() -> None:
        for _ in range(loops):
            for left, right, out in pairs:
                torch.mm(left, right, out=out)

    return rates(interleaved({"mm": work}, repeats)["mm"], loops * operations)
