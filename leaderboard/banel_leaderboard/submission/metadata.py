"""submission.json: what the submitter says of a submission. Everything in it is *reported*; nothing of it is a measured number.

It stands beside the packed runs, in `leaderboard/submissions/<date>-<name>/submission.json`. `banel submit` writes it, and
`banel check` compares what can be compared (suite, feedbacks, kind) with the records. All texts are short and every
character of them can be seen, so that a page can show them; a link is https and nothing else.
"""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from banel_envs.errors import BanelError, FileRefused
from banel_envs.files import safe_files
from banel_envs.files.visible import visible
from banel_envs.meter.oracle import Feedback
from banel_envs.problem import MOST_BUDGET
from banel_leaderboard.records.field_limits import MOST_NAME
from banel_leaderboard.records.record import Strict, validated

NAME = "submission.json"
MOST_FILE = 2**16  # bytes; the committed one has fewer than 1,000
MOST_TITLE, MOST_LINK, MOST_NOTE = 80, 200, 2_000  # characters
MOST_AUTHORS = 32
MOST_TRIED = 10**9  # configurations that were tried, or attempts
_LINK = r"https://[a-z0-9](?:[a-z0-9.-]{0,98}[a-z0-9])?(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/?#@!$&()*+,;=:%-]*)?"


class SubmissionError(BanelError):
    """A file of a submission is missing or not what it must be; the message names the file and the field."""


def _plain(text: str) -> str:
    """A text that a page can show as it is: ValueError for characters that nobody sees and for spaces at its ends."""
    if text != text.strip() or visible(text, None) != text:
        raise ValueError(
            "every character of it must be one that can be seen, and it must not start or end with a space"
        )
    return text


def _link(text: str) -> str:
    if text and (len(text) > MOST_LINK or not re.fullmatch(_LINK, text)):
        raise ValueError(f"it is empty or a link https://HOST/PATH of at most {MOST_LINK} ASCII characters")
    return text


def _date(text: str) -> str:
    if datetime.date.fromisoformat(text).isoformat() != text:
        raise ValueError("a date is written YYYY-MM-DD")
    return text


Title = Annotated[str, StringConstraints(min_length=1, max_length=MOST_TITLE), AfterValidator(_plain)]
Tried = Annotated[int, Field(ge=0, le=MOST_TRIED)]


class Tuning(Strict):
    """What was spent on choosing the settings, before the runs that are handed in. Both are *reported*."""

    configurations: Tried = 0  # settings that were tried, those of the submission included
    nre: Annotated[int, Field(ge=0, le=MOST_TRIED * MOST_BUDGET)] = 0  # evaluations of a reward that they were given


class Submission(Strict):
    """What a submitter says of a submission; immutable. JSON arrays become tuples."""

    submission: Literal[1] = 1  # the number of this form
    name: Title  # the method, as the board shows it
    authors: Annotated[tuple[Title, ...], Field(min_length=1, max_length=MOST_AUTHORS)]
    link: Annotated[str, AfterValidator(_link)] = ""  # to a paper or to the code
    licence: Annotated[str, StringConstraints(pattern=r"^(?:[A-Za-z0-9][A-Za-z0-9 .+()-]{0,99})?$")] = (
        ""  # an SPDX expression
    )
    commit: Annotated[str, StringConstraints(pattern=r"^(?:[0-9a-f]{7,64})?$")] = ""  # of the agent's code
    date: Annotated[str, AfterValidator(_date)]  # on which it was made, YYYY-MM-DD
    suite: Annotated[str, StringConstraints(pattern=rf"^[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{MOST_NAME - 1}}}$")]
    feedbacks: Annotated[tuple[Feedback, ...], Field(min_length=1, max_length=3)]
    tuning: Tuning = Tuning()
    attempts: Annotated[int, Field(ge=1, le=MOST_TRIED)] = 1  # times that the whole suite was run, this one included
    kind: Literal["fixed", "tuned"]  # fixed: all runs have the default settings of their agent
    note: Annotated[str, StringConstraints(max_length=MOST_NOTE), AfterValidator(_plain)] = ""

    def write(self, folder: Path) -> Path:
        """Write submission.json into a folder, whole or not at all; the file's path."""
        path = folder / NAME
        safe_files.write(path, (self.model_dump_json(indent=1) + "\n").encode(), path.with_suffix(".tmp"))
        return path


def parse_submission(content: bytes, path: Path) -> Submission:
    """Validate the bytes of a submission.json; `path` is what the SubmissionError calls it, which names the field too."""
    found = validated(Submission, content, path, "a submission's description", SubmissionError)
    if len(set(found.feedbacks)) < len(found.feedbacks):
        raise SubmissionError(
            f"{path} is not a submission's description: feedbacks: {found.feedbacks[0]} stands there twice"
        )
    return found


def load_submission(folder: Path) -> Submission:
    """What the submission in a folder says of itself.

    Raises:
        SubmissionError: submission.json is missing, no regular file, too large, not JSON, repeats a key, or a field is
            missing, unknown, of the wrong type, too long, or has characters that nobody sees.
    """
    path = folder / NAME
    try:
        return parse_submission(safe_files.read(path, MOST_FILE, below=folder), path)
    except FileRefused as error:
        raise SubmissionError(f"{error}; `banel submit` writes it") from error
