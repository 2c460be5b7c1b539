"""What the board says in words: titles, notes, agents and the glossary.

The page, the Markdown tables and `banel list` all take their words from here. The words are those of docs/glossary.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from banel_agents import AGENTS

if TYPE_CHECKING:
    from banel_leaderboard.board.ranking import Board

TITLES = {"fixed": "Default settings", "tuned": "Tuned settings", "off": "Off the board: other budgets"}
NOTES = {
    "fixed": "Each agent has one set of settings for all tasks, and each task its own budget.",
    "tuned": "These agents have settings other than their default ones. Their rows cannot be compared with the default board.",
    "off": "These runs had another budget than the task's own, or inherited answers. They are not ranked.",
}
REGIMES = {
    "failures": "Successes are withheld from the agent, so that it learns from failures alone. Ranked by success rate.",
    "full": "The agent is told every reward. Ranked by fresh success rate: an agent that repeats a success which it has "
    "asked gains nothing.",
    "twin": "The same agents with the same seeds, which are told “failure” for everything and charged nothing. What an agent "
    "gains over its twin is what it learnt from the oracle. A run that met no success is its own twin.",
}
GLOSSARY = {
    "NRE": "the number of reward evaluations: how many sequences were asked of the oracle. Every sequence counts 1; repeats "
    "and malformed sequences count as well.",
    "success": "the success rate: the probability that one sample of the policy is a success. It is exact where all "
    "successes can be enumerated.",
    "fresh": "the fresh success rate: the probability that one sample is a success that was not yet asked in this run.",
    "final": "the rate of the policy at the budget. It is the agent's result and ranks the row.",
    "best": "the highest rate on the curve, chosen in hindsight. An agent cannot choose it, since it cannot measure success.",
    "mixture": "the rate of an even mixture of all policies of the curve. An agent that does not know when to stop can have it.",
    "effective successes": "how many distinct successes carry the final rate; 1 means that the policy repeats a single one.",
    "twin": "the same agent with the same seed, which is told “failure” for everything and charged nothing. The gain over "
    "it is in decades.",
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
    "> budget": "the median run met no success within the budget.",
    **{f"agent {name}": shipped.about for name, shipped in AGENTS.items()},
}


def board_title(board: Board) -> str:
    """A board's heading."""
    return f"{TITLES[board.name]}, " + ("oracle-free twins" if board.regime == "twin" else f"feedback “{board.regime}”")


def board_note(board: Board) -> str:
    """What a reader must know before comparing the rows of a board."""
    regime = REGIMES[board.regime]
    note = f"{NOTES[board.name]} {regime.partition(' Ranked')[0] if board.name == 'off' else regime}"  # off: no ranks
    if board.regime == "twin" or any(row.met or row.missing for table in board.tables for row in table.rows):
        return note
    other = "full" if board.regime == "failures" else "failures"
    return f"{note} No run met a success, so feedback “{other}” would have given the same runs."
