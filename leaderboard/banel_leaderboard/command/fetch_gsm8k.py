"""Fetch the questions of GSM8K, for the command `banel data gsm8k`.

They come from the authors' repository, at the commit named here. Where that cannot be reached and the library `datasets` is
installed, they come from the Hugging Face hub. Either way their content is checked before anything is written.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

from banel_envs.data import GSM8K, DataAltered, DataMissing, check_gsm8k, gsm8k
from banel_envs.files import safe_files

COMMIT = "2909d34ef28520753df82a2234c357259d254aa8"
SOURCE = f"https://raw.githubusercontent.com/openai/grade-school-math/{COMMIT}/grade_school_math/data"
HUB = "openai/gsm8k"
SECONDS = 60.0  # without a byte from the server


def fetch_gsm8k(folder: Path) -> Path:
    """Put both parts of GSM8K into a folder. A right file that is there already is left as it is.

    Returns:
        The folder.

    Raises:
        DataAltered: a file that is there already is not GSM8K; it was left as it is.
        DataMissing: no source gave GSM8K, or the folder cannot be written to.
    """
    for part, name in GSM8K.items():
        path = folder / name
        if path.exists():
            gsm8k(part, folder)
            continue
        content = _load(part)
        packed = gzip.compress(content, mtime=0)  # equal lines give equal bytes
        draft = path.with_name(f".{name}.tmp")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            safe_files.write(path, packed, draft)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise DataMissing(f"{path} cannot be written: {error}; choose another folder") from error
    return folder


def _load(part: str) -> bytes:
    """The lines of one part, from the first source that has it."""
    failures = []
    loaders: dict[str, Callable[[str], bytes]] = {"github.com": _from_repository, HUB: _from_hub}
    for source, load in loaders.items():
        try:
            content = load(part)
        except (OSError, ValueError, ImportError) as error:
            failures.append(f"{source}: {error}")
            continue
        try:
            check_gsm8k(content, part, f"{part} of {source}")
        except DataAltered as error:
            failures.append(str(error))
            continue
        return content
    raise DataMissing(
        f"the part {part} of GSM8K could not be loaded: {'; '.join(failures)}. Try again later; `pip install datasets` "
        f"lets it come from the hub too"
    )


def _from_repository(part: str) -> bytes:
    with urllib.request.urlopen(f"{SOURCE}/{part}.jsonl", timeout=SECONDS) as answer:
        content: bytes = answer.read(safe_files.TABLE)
    return content


def _from_hub(part: str) -> bytes:
    from datasets import load_dataset

    rows = load_dataset(HUB, "main", split=part)
    lines = (json.dumps({"question": row["question"], "answer": row["answer"]}) for row in rows)
    return "".join(f"{line}\n" for line in lines).encode()
