"""All agents across the tasks of a board: the cells of one table, and how many runs had met a success by when, as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from banel_envs.files.visible import visible
from banel_leaderboard.board.cells import NONE, Cell, gain_text
from banel_leaderboard.board.chart import INK, MOST_LABEL, Style, plain, svg_of
from banel_leaderboard.ranking.across import Line, Overall, Score
from banel_leaderboard.ranking.rows import Question

HEADS: Mapping[Question, tuple[str, str]] = {
    "first": (
        "budget to first success",
        "mean share of the budget spent when the first success was asked, 1 where none was",
    ),
    "distinct": (
        "distinct, over without_replacement",
        "interquartile mean of log10((1 + distinct successes) / (1 + those of without_replacement))",
    ),
    "worth": (
        "final, over base",
        "interquartile mean of the decades of the final rate above the base policy's success, both floored at 10^-12",
    ),
}
MET = ("runs that met one", "share of runs that met a success by a tenth of the budget, and by all of it")
TENTH = 0.1


@dataclass(frozen=True)
class Head:
    """A heading of the table."""

    heading: str
    hint: str
    first: str = "descending"  # the order after the first click on the heading


def heads(table: Overall) -> list[Head]:
    """The headings: for each question a score and a rank, and how many runs met a success."""
    found = []
    for question in _questions(table):
        name, hint = HEADS[question]
        name = f"final {table.board.rate}, over base" if question == "worth" else name
        ascending = "ascending" if question == "first" else "descending"
        found.append(Head(name, hint, ascending))
        found.append(Head("rank", "its rank, the 95% interval of the rank, and its group", "ascending"))
        if question == "first":
            found.append(Head(*MET))
    return found


def cells(table: Overall, line: Line) -> list[Cell]:
    """The cells of a line, one for each heading."""
    found = []
    for question in _questions(table):
        found += _score(line.scores[question], question)
        if question == "first":
            found.append(_met(line))
    return found


def note(table: Overall) -> str:
    """What a reader must know of the table."""
    n = len(table.tasks)
    said = f"{n} task{'s' * (n != 1)}, each with the same weight."
    if table.unscored:
        left = n - len(table.unscored)
        score = f"is scored over the other {left}" if left else "has no score"
        where = ", ".join(visible(task) for task in table.unscored)
        said += f" The final rate {score}: on {where} a rate is known as an interval only, or the base policy's is not known."
    if table.left_out:
        said += " Left out: " + ", ".join(f"{agent} ({why})" for agent, why in table.left_out.items()) + "."
    return said


def _questions(table: Overall) -> Sequence[Question]:
    return [q for q in table.board.questions if q in table.lines[0].scores]


def _score(score: Score, question: Question) -> list[Cell]:
    text = (lambda value: f"{value:.0%}") if question == "first" else gain_text
    interval = "" if score.low is None or score.high is None else f"[{text(score.low)}, {text(score.high)}]"
    return [Cell(text(score.value), interval, score.value), _rank(score)]


def _rank(score: Score) -> Cell:
    if score.rank is None:
        return Cell(NONE)
    group = "" if score.group is None else f" {chr(ord('a') + min(score.group, 26) - 1)}"
    between = "" if score.ranks is None else f"[{score.ranks[0]}–{score.ranks[1]}]"
    return Cell(f"{score.rank}{group}", between, score.rank)


def _met(line: Line) -> Cell:
    early, late = line.curve.met(np.array([TENTH, 1.0]))
    return Cell(f"{early:.0%} / {late:.0%}", sort=float(late) + float(early) * 1e-3)


def svg(table: Overall, styles: Mapping[str, Style], name: str, width: int, height: int) -> str:
    """The share of runs that had met a success, against the share of the budget, as an SVG element; see chart.svg_of."""
    title = f"runs that met a success against the share of the budget, feedback {table.board.regime}"
    ends = "; ".join(
        f"{visible(line.agent, MOST_LABEL)} {line.curve.met(np.array([1.0]))[0]:.0%}" for line in table.lines
    )
    says = f"Share of runs that met a success within the budget: {ends}."
    return svg_of(lambda axes: draw_met(axes, table.lines, styles), name, (width, height), title, says)


def draw_met(axes: Any, lines: Sequence[Line], styles: Mapping[str, Style]) -> None:
    """Draw the share of runs that had met a success onto Matplotlib axes."""
    starts = [float(line.curve.times[0]) for line in lines]
    left = 10.0 ** np.floor(np.log10(min(*starts, 0.1)))
    for number, line in enumerate(lines):
        style = styles[line.agent]
        curve = line.curve
        x = np.concatenate(([left], curve.times, [1.0]))
        y = np.concatenate(([0.0], 1 - curve.alive, 1 - curve.alive[-1:]))
        axes.step(
            x,
            y,
            where="post",
            color=style.colour,
            marker=style.marker,
            markevery=(1 + number % 3, 4),
            markersize=5.5,
            linewidth=2,
            clip_on=False,
            gid=f"agent-{style.index}-line",
        )
    axes.set_xscale("log")
    axes.set_xlim(left, 1.0)
    axes.set_ylim(0, 1.0)
    ticks = 10.0 ** np.arange(round(np.log10(left)), 1)
    axes.set_xticks(ticks, [f"{tick:.{max(0, -round(np.log10(tick)) - 2)}%}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    axes.set_xlabel("share of the budget spent", color=INK)
    axes.set_ylabel("runs that met a success", color=INK)
    plain(axes)
