"""Read seeds and an agent's settings from a command line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from banel_envs.errors import BadJson, BadValue, FileRefused, NotJson
from banel_envs.files import safe_files, strict_json
from banel_envs.files.visible import shown

MOST_SEEDS = 10_000  # seeds in one range


def parse_seeds(text: str) -> list[int]:
    """The seeds in a text such as "0-4", "3" or "0,2,5-7"; BadValue for any other text."""
    seeds: list[int] = []
    try:
        for part in text.split(","):
            low, dash, high = part.partition("-")
            several = range(int(low), int(high if dash else low) + 1)
            if not 0 < len(several) <= MOST_SEEDS:
                raise ValueError(part)
            seeds += several
    except (ValueError, OverflowError) as error:  # len raises OverflowError for a very long range
        raise BadValue(f"seeds are {text!r}; write them like 0-4 or 0,3,7, at most {MOST_SEEDS:,} a range") from error
    if min(seeds) < 0 or len(set(seeds)) != len(seeds):
        raise BadValue(f"seeds are {text!r}; write different whole numbers from 0 on, like 0-4 or 0,3,7")
    return seeds


def read_settings(file: Path | None, pairs: Sequence[str]) -> dict[str, Any]:
    """The settings of a JSON or TOML file, and then those of NAME=VALUE pairs, which win."""
    settings = {} if file is None else _from_file(file)
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadValue(f"--set {shown(pair)}; write NAME=VALUE, such as f=16")
        try:
            settings[name] = strict_json.loads(value)
        except NotJson:
            settings[name] = value
        except BadJson as error:
            raise BadValue(f"--set {shown(pair)}: {error}") from error
    return settings


def _from_file(file: Path) -> dict[str, Any]:
    try:
        content = safe_files.read_named(file, safe_files.SETTINGS)
        settings = _from_toml(content) if file.suffix == ".toml" else strict_json.loads(content)
    except (FileRefused, ValueError, RecursionError) as error:
        raise BadValue(f"--config {file}: {error}; give a JSON or TOML file of settings") from error
    if not isinstance(settings, dict):
        raise BadValue(f"--config {file}: it holds a {type(settings).__name__}; give a table of settings")
    return settings


def _from_toml(content: bytes) -> Any:
    """The content of a TOML file. ValueError for what JSON cannot say: a date, an infinity or NaN."""
    try:
        return strict_json.loads(json.dumps(tomllib.loads(content.decode())))
    except TypeError as error:
        raise ValueError(error) from error
