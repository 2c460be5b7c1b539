"""Seeds and an agent's settings, as they are written on a command line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from banel_envs.errors import BadValue

MOST_SEEDS = 10_000  # in one range


def parse_seeds(text: str) -> list[int]:
    """Seeds from "0-4", "3" or "0,2,5-7"; BadValue otherwise."""
    seeds: list[int] = []
    try:
        for part in text.split(","):
            low, dash, high = part.partition("-")
            several = range(int(low), int(high if dash else low) + 1)
            if not 0 < len(several) <= MOST_SEEDS:
                raise ValueError(part)
            seeds += several
    except (ValueError, OverflowError) as error:  # a range may be longer than len can say
        raise BadValue(f"seeds are {text!r}; write them like 0-4 or 0,3,7, at most {MOST_SEEDS:,} a range") from error
    if min(seeds) < 0 or len(set(seeds)) != len(seeds):
        raise BadValue(f"seeds are {text!r}; write different whole numbers from 0 on, like 0-4 or 0,3,7")
    return seeds


def read_settings(file: Path | None, pairs: Sequence[str]) -> dict[str, Any]:
    """Settings from a JSON or TOML file, then from NAME=VALUE pairs."""
    settings: dict[str, Any] = {}
    if file is not None:
        try:
            content = file.read_text()
            settings = tomllib.loads(content) if file.suffix == ".toml" else json.loads(content)
        except (OSError, ValueError, RecursionError) as error:
            raise BadValue(f"--config {file}: {error}; give a JSON or TOML file of settings") from error
        if not isinstance(settings, dict):
            raise BadValue(f"--config {file}: it holds a {type(settings).__name__}; give a table of settings")
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadValue(f"--set {pair!r}; write NAME=VALUE, such as f=16")
        try:
            settings[name] = json.loads(value)
        except (ValueError, RecursionError):  # a word, or what its field will refuse
            settings[name] = value
    return settings
