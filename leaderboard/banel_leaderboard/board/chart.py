"""The curves: success rate against NRE. There is one panel for each task and feedback.

An agent has the same colour and marker in every panel. Both axes are logarithmic. NRE 0 stands at the left edge (the
axis is linear up to the first NRE of the grid after it), and a rate of zero stands on a dotted floor below the smallest
rate. A line is the median over seeds. Its band shows the quartiles, or the full range below 4 seeds. Every run's best
point is drawn as a hollow marker. A vertical stroke on the line is the median NRE to the first success. Where successes
are withheld, the line is dotted after it: what comes then can be learnt from the gaps that withheld successes leave.
Where a rate is known only as an interval, the line, the best point and the base policy's level show the lower end, and
the band reaches to the upper end.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from banel_agents import AGENTS
from banel_envs.files.visible import visible
from banel_leaderboard.ranking.rows import Board, RateName, Regime, Row, TaskTable
from banel_leaderboard.statistics.medians import Floats, at_or_before, band, median

# After Okabe and Ito 2008, whose colours colour-blind readers can tell apart; darkened for a white page. The colours of
# dark mode, in the same order, are in colours.css.
COLOURS = (
    "#5f6672", "#0a6ebd", "#c94f00", "#00876a", "#b5478a", "#9a6a00", "#6a4fc4", "#3c9fd6", "#8c1f4b", "#5d8a00"
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h", "<", ">", "p")
LEFT = 78  # pixels for the labels of the vertical axis
MOST_LABEL = 100  # characters of an agent's name that are shown
INK, MUTED, GRID = "#1d2330", "#667085", "#e3e6ea"
AFTER: dict[str, Any] = {"linestyle": (0, (1, 1.1)), "linewidth": 2.4}  # the part after withheld successes
MARK: dict[str, Any] = {"marker": "|", "markersize": 19, "markeredgewidth": 2.6, "linestyle": ""}
BASE_LINE: dict[str, Any] = {"color": MUTED, "linestyle": (0, (5, 3)), "linewidth": 1.1}


@dataclass(frozen=True)
class Style:
    """The colour and the marker of an agent, the same in every panel and table."""

    index: int

    @property
    def colour(self) -> str:
        """The colour in hexadecimal, for a white page."""
        return COLOURS[self.colour_index]

    @property
    def colour_index(self) -> int:
        """The index of the colour in COLOURS."""
        return self.index % len(COLOURS)

    @property
    def marker(self) -> str:
        """The marker as Matplotlib's letter. The colour and the marker together tell 110 agents apart (10 x 11)."""
        return MARKERS[self.index % len(MARKERS)]


@dataclass(frozen=True)
class Curve:
    """The runs of one row over the grid; rates are in log10."""

    agent: str
    nre: np.ndarray[Any, np.dtype[np.int64]]  # [G]
    middle: Floats  # [G]
    low: Floats
    high: Floats
    bests: tuple[tuple[int, float], ...]  # (NRE, rate) of each run's best point
    upper: float  # at the budget: the same as `middle`, or the upper end where only an interval is known
    first: float | None  # the median NRE to the first success; None where half of the runs met none, and for twins


@dataclass(frozen=True)
class Panel:
    """The chart of one task under one feedback."""

    task: str
    regime: Regime
    rate: RateName
    curves: tuple[Curve, ...]
    base: float | None  # log10 success of the base policy


def styles_of(agents: Iterable[str]) -> dict[str, Style]:
    """A style for each agent: the shipped ones in their registry's order, then the others by name."""
    known = {name: i for i, name in enumerate(AGENTS)}
    ordered = sorted(set(agents), key=lambda a: (known.get(a, len(known)), a))
    return {agent: Style(i) for i, agent in enumerate(ordered)}


def panel_of(board: Board, table: TaskTable) -> Panel:
    """The curves of a table."""
    base = [r.record.points[0].success.at() for row in table.rows if row.first.agent == "base" for r in row.runs]
    level = float(median(np.array(base))) if base else None
    return Panel(table.task, board.regime, board.rate, tuple(curve_of(row) for row in table.rows), level)


def curve_of(row: Row) -> Curve:
    """The curve of a row: the median over its runs and the band, at every NRE at which one of them was measured."""
    grid = np.unique([p.nre for r in row.runs for p in r.record.points])
    lows, highs, bests = [], [], []
    for run in row.runs:
        nre = np.array([p.nre for p in run.record.points])
        rates = [getattr(p, row.rate) for p in run.record.points]
        values = np.array([rate.at() for rate in rates])
        lows.append(at_or_before(nre, values, grid))
        highs.append(at_or_before(nre, np.array([rate.at("high") for rate in rates]), grid))
        bests.append((int(nre[values.argmax()]), float(values.max())))
    # A rate may be known as an interval only. The band then reaches from the lower ends to the upper ends.
    middle, low, _ = band(np.stack(lows))
    _, _, high = band(np.stack(highs))
    asked = None if row.first_success is None else row.first_success.nre.value
    asked = asked if asked is not None and math.isfinite(asked) else None
    return Curve(row.first.agent, grid, middle, low, high, tuple(bests), row.final.upper, asked)


def panel_svg(panel: Panel, styles: Mapping[str, Style], name: str, width: int, height: int) -> str:
    """A panel as an SVG element of `width` x `height` CSS pixels; see svg_of."""
    title = f"{panel.rate} rate against NRE: {panel.task}, feedback {panel.regime}"
    return svg_of(lambda axes: draw(axes, panel, styles), name, (width, height), title, _describe(panel))


def svg_of(fill: Callable[[Any], object], name: str, size: tuple[int, int], title: str, says: str) -> str:
    """What `fill` draws onto Matplotlib axes as an SVG element of a page.

    Colours are CSS variables, so that the page can change them. Every id begins with `name`, so that several drawings can
    stand on one page.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    width, height = size
    # The salt and the missing date make the same runs give the same bytes. Text stays text, in the page's own font.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 13 if width > 500 else 11}):
        figure = Figure((width / 72, height / 72))
        # Fixed margins, in pixels: to fit them to the texts takes a quarter of the time of a drawing.
        figure.subplots_adjust(left=LEFT / width, right=1 - 16 / width, top=1 - 8 / height, bottom=50 / height)
        figure.patch.set_alpha(0)
        fill(figure.add_subplot())
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return _inline(out.getvalue(), name, title, says)


def figure_png(panels: Sequence[Panel]) -> bytes:
    """All panels as one PNG: two side by side, with one legend below."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    styles = styles_of(c.agent for p in panels for c in p.curves)
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    with mpl.rc_context({"font.size": 10, "font.family": "sans-serif"}):
        figure = Figure((5.6 * across, 3.7 * down + 0.6), layout="constrained", facecolor="white")
        for i, panel in enumerate(panels):
            axes = figure.add_subplot(down, across, i + 1)
            draw(axes, panel, styles)
            title = visible(f"{panel.task}, feedback: {panel.regime}")
            # Names are not the package's own: a "$" in one would be read as a formula.
            axes.set_title(title, loc="left", color=INK, fontsize=10.5, parse_math=False)
        handles = [_handle(style, visible(agent, MOST_LABEL)) for agent, style in styles.items()]
        handles.append(Line2D([], [], **BASE_LINE, label="base policy at NRE 0"))
        handles.append(Line2D([], [], **MARK | {"markersize": 12}, color=INK, label="first success asked (median)"))
        handles.append(Line2D([], [], **AFTER, color=INK, label="after withheld successes"))
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)), frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=160, metadata={"Software": None})
    return out.getvalue()


def draw(axes: Any, panel: Panel, styles: Mapping[str, Style]) -> None:
    """Draw the curves, the base policy's line and the floor of a panel onto Matplotlib axes."""
    floor = _scales(axes, panel)
    ends = sorted({styles[c.agent].index for c in panel.curves})
    for curve in panel.curves:
        style = styles[curve.agent]
        look: dict[str, Any] = {"color": style.colour, "marker": style.marker}
        x, tag = curve.nre, f"agent-{style.index}"
        middle, low, high = (np.maximum(v, floor) for v in (curve.middle, curve.low, curve.high))
        axes.fill_between(x, low, high, color=style.colour, alpha=0.13, linewidth=0, gid=f"{tag}-band")
        every = (ends.index(style.index) % 3, 3)  # markers are staggered, so that equal curves can still be seen
        _plot_line(axes, panel, curve, middle, {**look, "markersize": 6.5, "clip_on": False}, every, tag)
        bests = np.array([(n, max(v, floor)) for n, v in curve.bests])
        axes.plot(
            *bests.T, **look, linestyle="", markersize=6, fillstyle="none", alpha=0.75, clip_on=False, gid=f"{tag}-best"
        )
    if panel.base is not None and math.isfinite(panel.base):
        axes.axhline(panel.base, **BASE_LINE, zorder=1)


def _plot_line(
    axes: Any, panel: Panel, curve: Curve, middle: Floats, look: dict[str, Any], every: tuple[int, int], tag: str
) -> None:
    """Draw a curve's line, with a stroke at the first success; where successes are withheld it is dotted from there on."""
    x = curve.nre.astype(np.float64)
    if curve.first is None:
        axes.plot(x, middle, **look, linewidth=2, markevery=every, gid=f"{tag}-line")
        return
    # The axis is not linear: what looks like a straight line between two points is one in the axis's own measure.
    measure = axes.xaxis.get_transform().transform
    at = float(np.interp(measure(np.array([curve.first])), measure(x), middle)[0])
    split = int(np.searchsorted(x, curve.first)) if panel.regime != "full" else len(x)
    joined = ([curve.first], [at]) if split < len(x) else ([], [])
    marked = [i for i in range(len(x)) if i % every[1] == every[0]]
    before, after = [i for i in marked if i < split], [i - split + 1 for i in marked if i >= split]
    lines = {"line": (np.r_[x[:split], joined[0]], np.r_[middle[:split], joined[1]], before)}
    if split < len(x):
        lines["after"] = (np.r_[curve.first, x[split:]], np.r_[at, middle[split:]], after)
    for part, (nre, rate, places) in lines.items():
        style = AFTER if part == "after" else {"linewidth": 2}
        axes.plot(nre, rate, **look, **style, markevery=places, gid=f"{tag}-{part}")
    axes.plot(curve.first, at, **MARK, color=look["color"], clip_on=False, gid=f"{tag}-mark")


def _scales(axes: Any, panel: Panel) -> float:
    """Set both axes, and give the height of the floor on which a rate of zero is drawn.

    The floor is 0.22 of the rates' span below the smallest one, so that zero is clearly apart. The other factors leave a
    margin, so that no line touches the frame.
    """
    values = [v for c in panel.curves for v in (*c.middle, *c.low, *c.high, *(b for _, b in c.bests))]
    finite = [v for v in [*values, panel.base] if v is not None and math.isfinite(v)] or [-1.0, 0.0]
    low, high = float(min(finite)), float(max(finite))
    span = max(high - low, 0.3)
    ticks = rate_ticks(low, high)
    floor = low - 0.22 * span
    zero = any(math.isinf(v) for v in values)
    if zero:
        axes.axhline(floor, color=MUTED, linestyle=":", linewidth=1.1, zorder=1)
        ticks = {floor: "zero"} | ticks
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.set_ylim((floor if zero else low) - 0.06 * span, min(high + 0.06 * span, 0.03 * span))
    axes.set_ylabel("fresh success rate" if panel.rate == "fresh" else "success rate", color=INK)
    _nre_axis(axes, np.unique(np.concatenate([c.nre for c in panel.curves])))
    plain(axes)
    return floor


def rate_ticks(low: float, high: float) -> dict[float, str]:
    """Ticks within low..high (log10) and their labels.

    They are whole decades, at most about 7 of them; where the span is at most 2 decades, 1, 2 and 5 times each decade.
    """
    step = max(1, math.ceil((high - low) / 7))
    decades = range(math.ceil(math.floor(low) / step) * step, math.ceil(high) + 1, step)
    parts = (1,) if high - low > 2 else (1, 2, 5)
    ticks = {}
    for k in decades:
        power = "10" + str(k).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        for m in parts:
            if low <= (at := k + math.log10(m)) <= min(high, 0):
                ticks[at] = "1" if at == 0 else power if m == 1 else f"{m}·{power}"
    return ticks


def plain(axes: Any) -> None:
    """Remove the box and the tick marks, and draw faint horizontal lines."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    axes.patch.set_alpha(0)
    axes.grid(axis="y", color=GRID, linewidth=0.9)
    axes.tick_params(colors=MUTED, which="both", length=0)
    axes.set_axisbelow(True)


def _nre_axis(axes: Any, grid: np.ndarray[Any, np.dtype[np.int64]]) -> None:
    from matplotlib.ticker import NullLocator

    budget = int(grid[-1])
    first = int(grid[1]) if len(grid) > 1 else 1
    # Logarithmic, but linear up to the first point of the grid, so that NRE 0 has a place.
    axes.set_xscale("symlog", linthresh=first, linscale=0.35)
    round_numbers = [m * 10**k for k in range(10) for m in (1, 2, 5)]
    ticks = [0, *(t for t in round_numbers if first <= t <= budget / 1.6), budget]
    axes.set_xticks(ticks, [f"{t:,}" for t in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(-0.12 * first, budget * 1.04)
    axes.set_xlabel("NRE (reward evaluations)", color=INK)


def _handle(style: Style, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=style.colour, marker=style.marker, linewidth=1.9, markersize=6, label=label)


def _inline(svg: str, name: str, title: str, says: str) -> str:
    """Turn Matplotlib's file into an element of a page.

    It loses its prologue. It gets unique ids, a title and a description for screen readers, and CSS variables for colours.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)  # HTML knows SVG without a namespace
    svg = re.sub(r'\bid="agent-(\d+)-(band|line|best|after|mark)"', r'class="a\1 \2"', svg)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\1{name}-", svg)
    for i, colour in enumerate(COLOURS):
        svg = svg.replace(colour, f"var(--c{i})")
    for colour, variable in ((INK, "ink"), (MUTED, "muted"), (GRID, "grid")):
        svg = svg.replace(colour, f"var(--{variable})")
    head, rest = svg.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    words = f'<title id="{name}-title">{escape(visible(title))}</title><desc id="{name}-desc">{escape(says)}</desc>'
    return f'{head} role="img" aria-labelledby="{name}-title {name}-desc">{words}{rest}'


def _describe(panel: Panel) -> str:
    """The chart in words, for readers who cannot see it."""
    ends = "; ".join(
        f"{visible(c.agent, MOST_LABEL)} {_end(c)}" for c in sorted(panel.curves, key=lambda c: -c.middle[-1])
    )
    base = "" if panel.base is None or math.isinf(panel.base) else f" The base policy succeeds at 10^{panel.base:.2f}."
    return f"Median {panel.rate} rate over seeds at the budget: {ends}.{base}"


def _end(curve: Curve) -> str:
    """A curve's rate at the budget, in words."""
    low, high = ("zero" if math.isinf(v) else f"10^{v:.2f}" for v in (float(curve.middle[-1]), curve.upper))
    return low if low == high else f"from {low} to {high}"
