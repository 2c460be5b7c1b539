"""The limits of a record's names, numbers and texts: short, made of visible letters, and never more than a page can show.

Whoever submits a record may have typed it by hand. Its names become headings, file names and labels, so they have to match a
pattern. A run is held to the same limits before its first question (`check_run`), so that no run can end in a record
that nobody can read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints

from banel_agents.limits import SERIES, check_reported
from banel_envs.errors import BadValue
from banel_envs.files import strict_json
from banel_envs.files.visible import shown, visible
from banel_envs.problem import MOST_BUDGET

MOST_NAME = 100  # characters of the name of a task's namespace, a task, an agent, a setting or a version
MOST_TEXT = 200  # characters of a processor's name or of a compiler's version
MOST_CONFIG = 2**14  # characters of all settings of an agent as JSON
MOST_SETTING = 4_000  # characters of one setting that is a text
MOST_SEED = 2**63 - 1
MOST_REPORTED = 2_000  # values that are kept of a series that an agent reports about itself

# Only letters, digits and '_' of ASCII are allowed: with letters of other alphabets that look alike, two different agents
# could have names that look the same.
AGENT = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
TASK = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}/[A-Za-z0-9_][A-Za-z0-9_.]{0,99}-v[0-9]{1,9}"
DIGEST = r"[A-Za-z0-9_.:+-]{0,128}"  # those of shipped tasks are SHA-256; a user's own task may use another text
SHA256 = r"[0-9a-f]{64}"
VERSION = r"[A-Za-z0-9_.+!-]{1,100}"
SETTING = r"[A-Za-z_][A-Za-z0-9_.-]{0,99}"


def _text(text: str) -> str:
    if len(text) > MOST_TEXT or visible(text) != text:
        raise ValueError(f"it has at most {MOST_TEXT} characters, each of which can be seen")
    return text


def _config(config: dict[str, Any]) -> dict[str, Any]:
    check_config(config)
    return config


TaskName = Annotated[str, StringConstraints(pattern=f"^{TASK}$")]
AgentName = Annotated[str, StringConstraints(pattern=f"^{AGENT}$")]
Digest = Annotated[str, StringConstraints(pattern=f"^{DIGEST}$")]
Sha256 = Annotated[str, StringConstraints(pattern=f"^{SHA256}$")]
Version = Annotated[str, StringConstraints(pattern=f"^{VERSION}$")]
Series = Annotated[str, StringConstraints(pattern=f"^{SERIES}$")]
Text = Annotated[str, AfterValidator(_text)]
Config = Annotated[dict[str, Any], AfterValidator(_config)]
Seed = Annotated[int, Field(ge=0, le=MOST_SEED)]
Count = Annotated[int, Field(ge=0, le=MOST_BUDGET)]  # an NRE
Tokens = Annotated[int, Field(ge=0, le=10**18)]
Log10 = Annotated[float, Field(ge=-1e6, le=10)]  # of a rate; a filtered policy's upper end can be above 1
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, le=1e18)]


def check_config(config: Mapping[str, Any]) -> None:
    """Raise ValueError unless the settings are short and finite, with names of letters, digits, '_', '.' and '-'."""
    try:
        written = json.dumps(dict(config), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the settings cannot be written as JSON: {error}") from error
    if len(written) > MOST_CONFIG:
        raise ValueError(f"the settings have {len(written):,} characters as JSON; at most {MOST_CONFIG:,} are kept")
    strict_json.loads(written)
    for name, value in config.items():
        if not re.fullmatch(SETTING, name):
            raise ValueError(
                f"a setting is called {shown(name)}; use at most {MOST_NAME} letters, digits, '_', '.', '-'"
            )
        if isinstance(value, str) and len(value) > MOST_SETTING:
            raise ValueError(f"the setting {name} has {len(value):,} characters; at most {MOST_SETTING:,} are kept")


def check_run(task: str, digest: str, agent: str, config: Mapping[str, Any], seed: int) -> None:
    """Raise BadValue unless a record can hold these values.

    A run is checked before its first question: an answer that was paid for must not be lost because its run cannot be
    recorded.
    """
    for what, value, pattern in (("task's id", task, TASK), ("task's digest", digest, DIGEST), ("agent", agent, AGENT)):
        if not re.fullmatch(pattern, value):
            raise BadValue(f"the {what} is {shown(value)}; it must match {pattern}, or a record cannot hold it")
    if seed > MOST_SEED:
        raise BadValue(f"seed is {shown(seed)}; a record holds whole numbers up to {MOST_SEED}")
    try:
        check_config(config)
    except ValueError as error:
        raise BadValue(f"{agent}: {error}") from error


class Reported:
    """What an agent reports about itself: for each name a series of (NRE, value).

    When a series is full, every second value is removed, and from then on only every second (fourth, eighth, ...) value
    is kept. So a series of any length covers the whole run.
    """

    def __init__(self) -> None:
        self.series: dict[str, list[tuple[int, float]]] = {}
        self._noted: dict[str, int] = {}  # how many values of a series were reported so far
        self._every: dict[str, int] = {}  # one of so many values is kept

    def note(self, agent: str, nre: int, values: Mapping[str, Any]) -> None:
        """Keep what the agent reports at this NRE; BadValue for a name or a value that a record cannot hold."""
        check_reported(agent, nre, values, self.series)
        for name, value in values.items():
            self._keep(name, (nre, float(value)))

    def _keep(self, name: str, point: tuple[int, float]) -> None:
        kept, told = self.series.setdefault(name, []), self._noted.setdefault(name, 0)
        self._noted[name] += 1
        every = self._every.setdefault(name, 1)
        if told % every:
            return
        if len(kept) == MOST_REPORTED:
            del kept[1::2]
            every = self._every[name] = 2 * every
            if told % every:
                return
        kept.append(point)
