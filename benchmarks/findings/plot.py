"""A dot plot for each task: every run as a dot, the median and its interval beside them, agents above their twins."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from banel_leaderboard.board.chart import BASE_LINE, COLOURS, GRID, INK, MUTED, plain, rate_ticks
from banel_leaderboard.statistics.medians import Floats, median, median_interval

SEED = 0  # of the resamples
AGENT, TWIN = COLOURS[1], MUTED
APART = 0.19  # a half of the distance between an agent's line and its twin's, of that between two variants
COLUMNS = 3
WIDTH, LINE, MARGIN = 4.0, 0.42, 1.0  # inches: of a panel, of a variant, of a panel's title and axis


@dataclass(frozen=True)
class Dots:
    """The log10 success rates of a variant's runs and of their twins, by seed."""

    agent: Floats  # [n]
    twin: Floats  # [n]


def dot_plot(panels: Mapping[str, Mapping[str, Dots]], bases: Mapping[str, float], title: str) -> bytes:
    """The figure as SVG, the same bytes for the same runs: a panel a task, a line a variant.

    Args:
        panels: by task and variant; every task has the same variants.
        bases: the log10 success rate of the base policy, by task.
        title: stands above all.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    names = list(next(iter(panels.values())))
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dots", "font.size": 10}):
        size = (WIDTH * columns + 1.4, rows * (LINE * len(names) + MARGIN) + 0.8)
        figure = Figure(size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes, (task, lines) in zip(grid.flat, panels.items(), strict=False):
            draw(axes, lines, bases[task])
            axes.set_title(task.removeprefix("banel/"), color=INK, fontsize=11)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes in grid[:, 0]:
            axes.set_yticks(range(len(names)), names, color=INK)
        grid[0, 0].set_ylim(len(names) - 0.5, -0.5)  # the first variant on top
        figure.suptitle(title, color=INK, fontsize=12)
        figure.legend(handles=handles(), loc="outside lower center", ncols=4, frameon=False)
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def draw(axes: Any, lines: Mapping[str, Dots], base: float) -> None:
    """One task."""
    plain(axes)
    axes.grid(visible=False)
    axes.axvline(base, **BASE_LINE, zorder=1)
    for y, dots in enumerate(lines.values()):
        axes.axhline(y + 0.5, color=GRID, linewidth=0.7, zorder=0)
        for values, shift, colour in ((dots.agent, -APART, AGENT), (dots.twin, APART, TWIN)):
            spread = 0.12 * np.linspace(-1, 1, len(values)) if len(values) > 1 else np.zeros(1)
            axes.plot(
                values, y + shift + spread, "o", color=colour, markersize=3, alpha=0.45, linewidth=0, clip_on=False
            )
            low, high = median_interval(values, SEED)
            axes.plot([low, high], [y + shift] * 2, color=colour, linewidth=1.8, solid_capstyle="butt")
            axes.plot(float(median(values)), y + shift, "|", color=colour, markersize=11, markeredgewidth=2.4)
    every = np.concatenate([np.concatenate((dots.agent, dots.twin)) for dots in lines.values()])
    low, high = min(float(every.min()), base), max(float(every.max()), base)
    ticks = rate_ticks(low, high)
    axes.set_xticks(list(ticks), list(ticks.values()))
    room = 0.05 * max(high - low, 0.3)
    axes.set_xlim(low - room, high + room)
    axes.set_xlabel("success rate at the end", color=INK)


def handles() -> list[Any]:
    """What the legend explains."""
    from matplotlib.lines import Line2D

    def dot(colour: str, label: str) -> Line2D:
        return Line2D([], [], color=colour, marker="o", linestyle="", markersize=4, label=label)

    bar = Line2D([], [], color=INK, marker="|", markersize=11, markeredgewidth=2.4, linewidth=1.8)
    bar.set_label("median and its 95% interval")
    line = Line2D([], [], **BASE_LINE, label="base policy")
    return [dot(AGENT, "told failures, a run"), dot(TWIN, "its twin, told nothing"), bar, line]
