"""What the board says in words: titles, notes, agents and the glossary.

The page, the Markdown tables and `banel list` all take their words from here. The words are those of docs/glossary.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from banel_agents import AGENTS

if TYPE_CHECKING:
    from banel_leaderboard.ranking.rows import Board, Question, Regime

TITLES = {"fixed": "Default settings", "tuned": "Tuned settings", "off": "Off the board: other budgets"}
NOTES = {
    "fixed": "Each agent has one set of settings for all tasks, and each task its own budget.",
    "tuned": "These agents have settings other than their default ones. Their rows cannot be compared with the default board.",
    "off": "These runs had another budget than the task's own, or inherited answers. They are not ranked.",
}
REGIMES: dict[Regime, str] = {
    "failures": "The agent is told which sequences failed, and successes are withheld. Until its first success every answer "
    "is “failed”, so up to then a run is the same as its blind twin: what it gains by then is not learnt from the oracle.",
    "full": "The agent is told every reward. Ordered by the number of distinct successes asked, because an agent that "
    "repeats one success for ever has a success rate of 1 and finds nothing.",
    "typed": "The agent is told which sequences failed, and of each why, by a type that the task names; successes are withheld. "
    "The types grade near misses, so what a run gains over its blind twin before its first success is learnt from them.",
    "blind": "The agent is told “failure” for everything and charged nothing. These are the oracle-free twins of the runs with "
    "the same seeds. A run that met no success is its own twin.",
}
QUESTIONS: dict[Question, str] = {
    "first": "How soon the first success?",
    "distinct": "How many distinct successes for the budget?",
    "worth": "What is the final policy worth?",
}
ABOUT: dict[Question, str] = {
    "first": "The median NRE to the first success, from the ledgers, those that were withheld included; and how good the "
    "policy was by then.",
    "distinct": "From the ledgers alone, successes that were withheld included.",
    "worth": "Rates in log₁₀, at the budget and over the curve.",
}
GLOSSARY = {
    "NRE": "the number of reward evaluations: how many sequences were asked of the oracle. Every sequence counts 1; repeats "
    "and malformed sequences count as well.",
    "NRE to first success": "the median over runs by Kaplan and Meier: a run without a success counts as one whose first "
    "success comes after its last evaluation. “> budget”: half of the runs or more met none.",
    "success by then": "the log10 success rate of the last policy that was measured before the first success was asked; at "
    "the budget where none was. Its gain over the base policy owes nothing to the oracle’s answers, unless these told types.",
    "distinct successes": "how many different successes a run asked. The mean over the budget is the area under their curve "
    "against NRE, divided by the budget.",
    "next question": "the rate at which the final policy’s next question is a new success: fresh success over the probability "
    "of all sequences that were not asked. −∞ where less than a thousandth of it is left; – where a record does not hold it.",
    "success": "the success rate: the probability that one sample of the policy is a success. It is exact where all "
    "successes can be enumerated.",
    "fresh": "the fresh success rate: the probability that one sample is a success that was not yet asked in this run.",
    "final": "the rate of the policy at the budget.",
    "best": "the highest rate on the curve, chosen in hindsight. An agent cannot choose it, since it cannot measure success.",
    "mixture": "the rate of an even mixture of all policies of the curve. An agent that does not know when to stop can have it.",
    "effective successes": "how many distinct successes carry the final rate; 1 means that the policy repeats a single one.",
    "twin": "the same agent with the same seed, told nothing (blind). The gain over it is in decades.",
    "across tasks": "every task has the same weight. First success: the share of the budget spent when it was asked, 1 where "
    "none was; the mean. Distinct: log10 of (1 + distinct successes) / (1 + those of `without_replacement`); worth: decades of "
    "the final rate above the base policy’s, both floored at 10^-12. Of these two the mean of the middle half of all runs.",
    "rank a–b": "the 95% interval of a rank, from resampled runs.",
    "group": "agents with the same letter cannot be told apart from the best of them: the 95% interval of the difference "
    "reaches 0.",
    "interval": "the 95% percentile bootstrap interval of the median over seeds, written [low, high] below the number. Below "
    "five seeds it would hold the median too rarely; then the number of seeds stands in its place, such as n=3.",
    "[low, high] alone": "no number is known, only that the rate lies between these two (medians over seeds of the ends of "
    "the certified intervals). The lower end ranks the row, because the policy certainly reaches it.",
    "−∞": "the log10 of a rate that is zero, or of a lower end of which nothing is known. Infinities are ordered, never "
    "averaged.",
    "standing": "how far a row's final rates are proved. Reported: the records say so, and their ledgers do not contradict "
    "them. Recomputed: every answer was computed again from the task's reward, and the final rates from the stored "
    "policies. Replayed: the agents were run again over their ledgers and gave the same records. The points of a curve "
    "before the last one, and so best and mixture, are reported unless replayed. Seconds are always reported.",
    **{f"agent {name}": shipped.about for name, shipped in AGENTS.items()},
}


def board_title(board: Board) -> str:
    """A board's heading."""
    return f"{TITLES[board.name]}, " + (
        "told nothing (blind)" if board.regime == "blind" else f"feedback “{board.regime}”"
    )


def board_note(board: Board) -> str:
    """What a reader must know before comparing the rows of a board."""
    regime = REGIMES[board.regime]
    note = f"{NOTES[board.name]} {regime.partition(' Ordered')[0] if board.name == 'off' else regime}"  # off: no ranks
    if board.regime in ("blind", "typed") or any(
        row.met or row.missing for table in board.tables for row in table.rows
    ):
        return note
    other = "full" if board.regime == "failures" else "failures"
    return f"{note} No run met a success, so feedback “{other}” would have given the same runs."


def question_title(question: Question) -> str:
    """A question with its number."""
    return f"{1 + list(QUESTIONS).index(question)}. {QUESTIONS[question]}"
