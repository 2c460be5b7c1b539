"""Distinct successes against NRE, as a light drawing of lines: the median over seeds of what the ledgers say.

Both axes are logarithmic; the lowest height stands for 0. It is drawn without Matplotlib, which takes a fifth of a second for a
chart, and there is one of these for every task of the page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np

from banel_envs.files.visible import visible
from banel_leaderboard.board.cells import number_text
from banel_leaderboard.board.chart import MOST_LABEL, Style
from banel_leaderboard.board.swatches import SHAPES
from banel_leaderboard.ranking.rows import Row, TaskTable
from banel_leaderboard.statistics.medians import Floats, median

PLACES = 60  # NREs at which a curve is drawn, evenly apart on the axis
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 10, 44  # margins
MARKED = 15  # every so many places there is a marker
ZERO = 0.5  # the height at which 0 is drawn, below 1


def svg(table: TaskTable, styles: Mapping[str, Style], name: str, width: int, height: int) -> str:
    """The curves of a task as an SVG element of `width` x `height` CSS pixels. Every id begins with `name`."""
    budget = table.budget
    nre = np.unique(np.geomspace(max(1, budget / 1_000), budget, PLACES).round())
    curves = [(row, found_by(row, nre)) for row in table.rows]
    most = max(10.0, *(float(values.max()) for _, values in curves))
    x = _axis(float(nre[0]), budget, LEFT, width - RIGHT)
    y = _axis(ZERO, most, height - BOTTOM, TOP)
    parts = [_grid(_heights(most), y, width), *_labels(_nres(float(nre[0]), budget), x, height)]
    parts += [_line(styles[row.first.agent], nre, values, x, y) for row, values in curves]
    parts.append(_text((LEFT + width - RIGHT) / 2, height - 6, "NRE (reward evaluations)", "middle", "ink"))
    ends = "; ".join(f"{visible(row.first.agent, MOST_LABEL)} {number_text(float(v[-1]))}" for row, v in curves)
    title = f'<title id="{name}-title">{escape(visible(f"distinct successes against NRE: {table.task}"))}</title>'
    says = f'<desc id="{name}-desc">{escape(f"Median number of distinct successes at the budget: {ends}.")}</desc>'
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-labelledby="{name}-title {name}-desc" '
        f'font-size="{13 if width > 500 else 11}">{title}{says}{"".join(parts)}</svg>'
    )


def found_by(row: Row, nre: Floats) -> Floats:
    """The median over seeds of the distinct successes asked by each NRE."""
    by = [np.searchsorted(run.asked.found, nre, side="right").astype(np.float64) for run in row.runs]
    return median(np.stack(by, axis=-1))


def _axis(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Where a value stands on a logarithmic axis."""
    span = math.log(high / low) or 1.0
    return lambda value: start + (end - start) * math.log(max(value, low) / low) / span


def _heights(most: float) -> list[float]:
    return [0.0, *(10.0**k for k in range(math.floor(math.log10(most)) + 1))]


def _nres(least: float, budget: int) -> list[float]:
    """Whole decades, and the budget."""
    decades = [10.0**k for k in range(10) if least <= 10**k <= budget / 2]
    return [*decades, float(budget)]


def _grid(heights: Sequence[float], y: Callable[[float], float], width: int) -> str:
    lines = "".join(f"M{LEFT} {y(v):.1f}H{width - RIGHT}" for v in heights)
    words = "".join(_text(LEFT - 8, y(v) + 4, f"{v:,.0f}", "end", "muted") for v in heights)
    return f'<path d="{lines}" stroke="var(--grid)" fill="none"/>{words}'


def _labels(nres: Sequence[float], x: Callable[[float], float], height: int) -> list[str]:
    return [_text(x(v), height - BOTTOM + 18, f"{v:,.0f}", "middle", "muted") for v in nres]


def _text(x: float, y: float, text: str, anchor: str, ink: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="var(--{ink})">{escape(text)}</text>'


def _line(style: Style, nre: Floats, values: Floats, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    places = [f"{x(n):.1f} {y(v):.1f}" for n, v in zip(nre.tolist(), values.tolist(), strict=True)]
    colour = f"var(--c{style.colour_index})"
    marker = SHAPES[style.marker]
    # Markers are staggered, so that equal curves can still be seen.
    markers = "".join(
        f'<path d="{marker}" transform="translate({place})" fill="{colour}"/>'
        for place in (*places[-1 - 3 * (style.index % 4) :: -MARKED], places[-1])
    )
    return (
        f'<g class="a{style.index} found"><path d="M{"L".join(places)}" stroke="{colour}" stroke-width="2" '
        f'fill="none" stroke-linejoin="round"/>{markers}</g>'
    )
