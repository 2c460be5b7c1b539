"""Stop a loop of questions that have no sequence in them: they cost nothing, so the budget would never end it."""

from __future__ import annotations

from banel_envs.errors import NothingAsked

MOST_EMPTY = 10_000
"""How many such questions are answered in a row."""


class EmptyQuestions:
    """Counts the questions without a sequence since the last one that had some."""

    __slots__ = ("_count",)

    def __init__(self) -> None:
        self._count = 0

    def note(self, n: int, nre: int, budget: int) -> None:
        """Count a question of n sequences, asked when `nre` of `budget` evaluations were spent.

        Raises:
            NothingAsked: it is one of more than MOST_EMPTY in a row without a sequence.
        """
        self._count = 0 if n else self._count + 1
        if self._count > MOST_EMPTY:
            raise NothingAsked(
                f"{self._count:,} questions in a row had no sequence in them, at NRE {nre:,} of {budget:,} (at most "
                f"{MOST_EMPTY:,}): is a batch size 0, does a filter let nothing pass, or does a loop go on when nothing is left? "
                f"Ask at least one sequence, or end the loop"
            )
