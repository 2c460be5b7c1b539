r"""KeyFile: which question of a ledger was handed in under which key, so that keys outlive the process of a desk.

    {"question": 3, "key": "step 3", "sha256": "9f2c..."}    written before the ledger's line of the question

A line whose question never reached the ledger charged nothing, and a later line of the same number replaces it. The
SHA-256 is that of the sequences, so a key is never given the answer to another batch. A last line without its newline was
torn by a crash, before anything was charged, and is dropped.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import NamedTuple

from banel_envs.errors import LedgerCorrupt, LedgerWriteError
from banel_envs.files import safe_files, strict_json
from banel_envs.problem import Tokens


class Entry(NamedTuple):
    """What was handed in under a key."""

    key: str
    sha256: str  # of the sequences


class KeyFile:
    """The keys of the questions in a ledger.

    Args:
        path: the file; made with the first key.

    Raises:
        LedgerCorrupt: a whole line of the file is not what was written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[int, Entry] = {}
        content = safe_files.read(path, safe_files.LEDGER) if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                found = strict_json.loads(line)
                question, entry = int(found["question"]), Entry(str(found["key"]), str(found["sha256"]))
            except (ValueError, LookupError, TypeError) as error:
                raise LedgerCorrupt(
                    f"{path}, line {number}: it does not say which question has which key ({error}); restore the file, or "
                    f"move it away: then the answers stay in the ledger, and nobody is given them for a key"
                ) from error
            self.entries[question] = entry
        if len(whole) < len(content):
            os.truncate(path, len(whole))

    def note(self, question: int, entry: Entry) -> None:
        """Write a line, unless it stands there already.

        Raises:
            LedgerWriteError: it could not be stored; nothing was asked.
        """
        if self.entries.get(question) == entry:
            return
        line = json.dumps({"question": question, "key": entry.key, "sha256": entry.sha256}) + "\n"
        try:
            with self.path.open("ab", buffering=0) as file:
                file.write(line.encode())
        except OSError as error:
            raise LedgerWriteError(f"{self.path} cannot be written: {error}; nothing was asked") from error
        self.entries[question] = entry


def digest(tokens: Tokens) -> str:
    """SHA-256 of sequences [n, T] in their order."""
    return hashlib.sha256(f"{list(tokens.shape)}\n".encode() + tokens.astype("<i8").tobytes()).hexdigest()
