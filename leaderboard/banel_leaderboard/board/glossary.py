"""What the board says in words: titles, notes, agents and the glossary, once for the page, Markdown and `banel list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from banel_agents import AGENTS

if TYPE_CHECKING:
    from banel_leaderboard.board.ranking import Board

TITLES = {"fixed": "Default settings", "tuned": "Tuned settings", "off": "Off the board: other budgets"}
NOTES = {
    "fixed": "One set of hyperparameters for all tasks, each task's own budget.",
    "tuned": "Settings that differ from the agent's default. Not comparable with the default board.",
    "off": "Budgets other than the task's own. Not ranked.",
}
REGIMES = {
    "failures": "Successes are withheld from the agent: it learns from failures alone. Ranked by success.",
    "full": "The agent is told every reward. Ranked by fresh success: repeating a known success earns nothing.",
    "twin": "The same agents, told “failure” for everything and charged nothing. What an agent gains over its twin "
    "is what it learnt from the oracle. Runs that met no success are their own twin.",
}
GLOSSARY = {
    "NRE": "number of reward evaluations: sequences asked of the oracle. Each counts one, repeats and malformed too.",
    "success": "the probability that one sample of the policy is a success. Exact where all successes can be listed.",
    "fresh": "the same, less the successes this run has already asked: what the policy still has to find.",
    "final": "the rate of the policy at the budget. It is the agent's result and ranks the row.",
    "best": "the highest rate on the curve, picked in hindsight. Only who can measure success could pick it.",
    "mixture": "the rate of all the curve's policies mixed evenly: what an agent without a stopping rule can have.",
    "effective successes": "how many distinct successes carry the final rate; 1 means collapse onto a single one.",
    "twin": "the same agent, told “failure” for everything and charged nothing. The gain over it is in decades.",
    "interval": "95% percentile bootstrap of the median over seeds, written [low, high] below the number. n=3: of fewer "
    "than five seeds it would hold the median too rarely, so none.",
    "[low, high] alone": "no number is known, only that the rate lies between these (medians over seeds of the certified "
    "ends). The lower end ranks the row: it is what the policy reaches for sure.",
    "−∞": "log10 of a rate that is zero, or of whose lower end nothing is known. Infinities are ordered, never averaged.",
    "standing": "how far a row's final rates are proved. Reported: its records say so. Recomputed: every answer was computed "
    "again from the task's reward, and the final rates from the stored policies. Replayed: the agents were run again and "
    "gave the same. "
    "Points of the curve before the last, and so best and mixture, are reported unless replayed; seconds always are.",
    "> budget": "the median run met no success within the budget.",
    **{f"agent {name}": shipped.about for name, shipped in AGENTS.items()},
}


def board_title(board: Board) -> str:
    """A board's heading."""
    return f"{TITLES[board.kind]}, " + ("oracle-free twins" if board.regime == "twin" else f"feedback “{board.regime}”")


def board_note(board: Board) -> str:
    """What a reader must know before comparing its rows."""
    regime = REGIMES[board.regime]
    note = f"{NOTES[board.kind]} {regime.partition(' Ranked')[0] if board.kind == 'off' else regime}"
    if board.regime == "twin" or any(row.met or row.missing for table in board.tables for row in table.rows):
        return note
    other = "full" if board.regime == "failures" else "failures"
    return f"{note} No run met a success, so feedback “{other}” would have given the same runs."
