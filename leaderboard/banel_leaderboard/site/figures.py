"""The figures of the site for a paper, by Matplotlib: what `banel plot` writes.

For each feedback: success against NRE with bands (all tasks in one figure, and each task in its own), distribution of the
first successes, performance profile, and final success against computation. Without a success, and with one agent alone,
each of them is drawn all the same.
"""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from banel_envs.errors import BadValue
from banel_envs.files.visible import visible
from banel_leaderboard.board.chart import INK, MOST_LABEL, Panel, Style, draw, panel_of, plain, styles_of
from banel_leaderboard.board.overall import draw_met
from banel_leaderboard.board.write import write_whole
from banel_leaderboard.proving.load import Run, load_runs
from banel_leaderboard.ranking.across import Line, gain_over_base, overall
from banel_leaderboard.ranking.answers import Bases
from banel_leaderboard.ranking.boards import make_boards
from banel_leaderboard.ranking.marks import settings
from banel_leaderboard.ranking.rows import Board, Row
from banel_leaderboard.running.lookup import Known
from banel_leaderboard.statistics.across import even_weights
from banel_leaderboard.statistics.medians import Floats

WIDTH, HEIGHT = 5.6, 3.6  # inches of a single panel
ACROSS = 3  # panels side by side
MOST_TOLD = 60  # characters of settings in a legend
Fill = Callable[[Any], object]


def read(folders: Sequence[Path], known: Known | None = None) -> list[Run]:
    """The runs of some folders. Where there are several, each run is of the submission that its folder names.

    Raises:
        BadValue: a folder holds no run, or no run of it counts.
    """
    runs: list[Run] = []
    for folder in folders:
        found = load_runs(folder, known).runs
        if not found:
            raise BadValue(f"no run in {folder} counts; `banel board {folder} --out board.md` lists why")
        name = folder.resolve().name if len(folders) > 1 else ""
        runs += [dataclasses.replace(run, submission=name) for run in found]
    return runs


def write_figures(runs: Sequence[Run], out: Path, ending: str = "pdf") -> list[Path]:
    """Write every figure into a folder; the same runs give the same bytes.

    Raises:
        BadValue: no run has its task's own budget and was told something, or a file cannot be written.
    """
    boards = [board for board in make_boards(runs) if board.name != "off" and board.regime != "blind"]
    if not boards:
        raise BadValue(f"none of {len(runs)} runs has its task's own budget and was told something; a figure needs one")
    files = []
    for board in boards:
        for name, content in _figures(board, runs, ending).items():
            path = out / f"{board.name}-{board.regime}-{name}.{ending}"
            write_whole(path, content)
            files.append(path)
    return files


def _figures(board: Board, runs: Sequence[Run], ending: str) -> dict[str, bytes]:
    panels = [_named(panel_of(board, table), table.rows) for table in board.tables]
    styles = styles_of(curve.agent for panel in panels for curve in panel.curves)
    made = {"curves": _figure([_panel(panel, styles) for panel in panels], styles, ending)}
    for panel in panels:
        made[f"curve-{_file(panel.task)}"] = _figure([_panel(panel, styles)], styles, ending)
    rows = [row for table in board.tables for row in table.rows]
    table = overall(board, resamples=0)
    lines = [] if table is None else list(table.lines)
    labels = {_label(line.rows[0]) for line in lines}
    own = {label: style for label, style in styles.items() if label in labels}
    made["profile"] = _figure([lambda axes: _profile(axes, rows, board, Bases(runs), styles)], styles, ending)
    if lines:  # agents with a rank on every task; the others have no score over all of them
        made["first"] = _figure([lambda axes: draw_met(axes, lines, _by_agent(lines, styles))], own, ending)
        if all("worth" in line.scores for line in lines):
            made["compute"] = _figure([lambda axes: _compute(axes, lines, board, styles)], own, ending)
    return made


def _label(row: Row) -> str:
    """The agent, its settings where they are not the default ones, and the folder that it is from where there are several."""
    run = row.runs[0]
    told = [run.submission, settings(run.record)[:MOST_TOLD] if run.record.tuned else ""]
    return f"{run.record.agent} ({'; '.join(filter(None, told))})" if any(told) else run.record.agent


def _named(panel: Panel, rows: Sequence[Row]) -> Panel:
    curves = [dataclasses.replace(c, agent=_label(row)) for c, row in zip(panel.curves, rows, strict=True)]
    return dataclasses.replace(panel, curves=tuple(curves))


def _by_agent(lines: Sequence[Line], styles: Mapping[str, Style]) -> dict[str, Style]:
    return {line.agent: styles[_label(line.rows[0])] for line in lines}


def _file(task: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", task.rpartition("/")[2]).strip("-")


def _panel(panel: Panel, styles: Mapping[str, Style]) -> Fill:
    def fill(axes: Any) -> None:
        draw(axes, panel, styles)
        axes.set_title(visible(panel.task), loc="left", color=INK, fontsize=10, parse_math=False)

    return fill


def _figure(fills: Sequence[Fill], styles: Mapping[str, Style], ending: str) -> bytes:
    """Panels side by side with one legend below."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    across = min(ACROSS, len(fills))
    down = -(-len(fills) // across)
    # Type 42 keeps text in a PDF as text, which publishers ask for. The salt and the missing date make equal bytes.
    with mpl.rc_context({"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "banel", "font.size": 9}):
        figure = Figure((WIDTH * across, HEIGHT * down + 0.5), layout="constrained", facecolor="white")
        for i, fill in enumerate(fills):
            fill(figure.add_subplot(down, across, i + 1))
        handles = [
            Line2D([], [], color=style.colour, marker=style.marker, linewidth=1.8, label=visible(label, MOST_LABEL))
            for label, style in styles.items()
        ]
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=min(4 * across, 8), frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
        out = io.BytesIO()
        without = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}[ending]
        figure.savefig(out, format=ending, dpi=200, metadata=without)
    return out.getvalue()


def _profile(axes: Any, rows: Sequence[Row], board: Board, bases: Bases, styles: Mapping[str, Style]) -> None:
    """Which share of an agent's runs ends at least so many decades above the base policy; every task weighs the same.

    Tasks on which that is not known for every run are left out, for all agents.
    """
    found = {id(row): [gain_over_base(run.record, board.rate, bases) for run in row.runs] for row in rows}
    left_out = {row.first.task for row in rows if None in found[id(row)]}
    drawn = {}
    for label, mine in _by_label(rows).items():
        known = [np.array(found[id(row)], np.float64) for row in mine if row.first.task not in left_out]
        if known:
            drawn[label] = reached(np.concatenate(known), even_weights([len(part) for part in known]))
    left = min((float(x[0]) for x, _ in drawn.values()), default=0.0) - 0.2  # decades: every line begins at 100%
    for label, (x, share) in drawn.items():
        axes.step(np.r_[left, x], np.r_[1.0, share], where="pre", color=styles[label].colour, linewidth=1.8)
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    axes.set_xlabel("decades of the final rate above the base policy, at least", color=INK)
    axes.set_ylabel("share of runs", color=INK)
    plain(axes)


def reached(values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """The share of weight whose value is at least x, at each value x and falling to 0 behind the largest: [n + 1] twice.

    It is the performance profile of Agarwal et al. 2021, drawn as steps from the left ("pre").
    """
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order][::-1])[::-1] / weights.sum()
    last = values[order][-1:]
    return np.concatenate((values[order], last)), np.concatenate((share, [0.0]))


def _compute(axes: Any, lines: Sequence[Line], board: Board, styles: Mapping[str, Style]) -> None:
    """What the final policies are worth over all tasks, against the tokens of a median run, summed over the tasks."""
    for line in lines:
        work = sum(row.typical(lambda r: r.work.sampled + r.work.scored + r.work.trained) for row in line.rows)
        style, at = styles[_label(line.rows[0])], (max(work, 1), line.scores["worth"].value)
        axes.plot(*at, color=style.colour, marker=style.marker, markersize=7)
    axes.set_xscale("log")
    axes.set_xlabel("tokens sampled, scored and trained on (median run, all tasks)", color=INK)
    axes.set_ylabel(f"final {board.rate}, decades over base", color=INK)
    plain(axes)


def _by_label(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(_label(row), []).append(row)
    return found
