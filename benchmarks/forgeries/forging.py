"""Read an honest run, change what a liar would change, and write it again with every hash in order.

One writer for every forgery; `packed` puts a forged run into a packed submission, beside the board it was taken from.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs import Ledger
from banel_envs.meter import ledger_format
from banel_envs.policies import Policy, save_policy
from banel_envs.problem import Tokens
from banel_leaderboard.records.pack import pack
from banel_leaderboard.records.run_folder import LINES


@dataclass
class Forged:
    """A run folder taken apart."""

    record: dict[str, Any]
    header: dict[str, Any]
    asks: list[tuple[Tokens, NDArray[np.int8]]]  # questions [n, T] with their answers [n]
    status: dict[str, Any]
    policy: bytes | None
    types: list[NDArray[np.int8] | None]  # [n] of each question, where its failures were told types
    raw: dict[str, bytes] = field(default_factory=dict)  # files that are written as they stand, last

    @classmethod
    def read(cls, folder: Path) -> Forged:
        """Take a folder apart."""
        ledger = Ledger.read(folder / "ledger.jsonl")
        final, status = folder / "final.safetensors", folder / "run.json"
        return cls(
            record=json.loads((folder / "record.json").read_text()),
            header=dict(ledger.header),
            asks=[(ledger.tokens(ask), ask.rewards.copy()) for ask in ledger.asks],
            status=json.loads(status.read_text()) if status.exists() else {},
            policy=final.read_bytes() if final.exists() else None,
            types=[None if ask.types is None else ask.types.copy() for ask in ledger.asks],
        )

    def bind(self, **changes: Any) -> None:
        """Say the same in the record and in the ledger's first line."""
        self.record |= changes
        self.header |= changes

    def answer(self, number: int, row: int, reward: int) -> None:
        """Another answer."""
        self.asks[number][1][row] = reward

    def use(self, policy: Policy, scratch: Path) -> None:
        """Another final policy, its hash in the record."""
        save_policy(scratch, policy)
        self.store(scratch.read_bytes())

    def store(self, content: bytes) -> None:
        """These bytes as the final policy, their hash in the record."""
        self.policy = content
        self.record["policy_sha256"] = hashlib.sha256(content).hexdigest()

    def claim(self, log10: float, *rates: str, points: slice = slice(-1, None)) -> None:
        """Type a rate into the curve."""
        for point in self.record["points"][points]:
            for rate in rates or ("success", "fresh"):
                known = log10 > -np.inf
                value = log10 if known else None
                point[rate] |= {"log10": value, "low": value, "high": value, "zero": not known}

    def write(self, folder: Path) -> None:
        """Every line sealed again; the record's ledger mark, successes and first success follow from the answers."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder / name for name in ("record.json", "ledger.jsonl", "run.json", "final.safetensors")):
            path.unlink(missing_ok=True)
        head, content = ledger_format.seal("", ledger_format.header_body(self.header))
        lines = 1
        for i, (tokens, rewards) in enumerate(self.asks):
            packed = ledger_format.pack_tokens(tokens, self.header["vocabulary"])
            head, question = ledger_format.seal(
                head, ledger_format.ask_body(i, ledger_format.Ask(len(tokens), packed, rewards))
            )
            types = self.types[i] if i < len(self.types) else None  # a question that was added has none
            head, answer = ledger_format.seal(head, ledger_format.answer_body(i, 0, rewards, None, types=types))
            content += question + answer
            lines += 2
        rewards = np.concatenate([np.empty(0, np.int8), *(r for _, r in self.asks)])
        hits = np.flatnonzero(rewards == 1)
        self.record["ledger"] = {"head": head, "lines": lines, "count": len(rewards)}
        self.record["successes_asked"] = len(hits)
        self.record["first_success"] = int(hits[0]) + 1 if len(hits) else None
        files = {
            "ledger.jsonl": content,
            "record.json": json.dumps(self.record).encode(),
            "run.json": json.dumps(self.status).encode(),
        }
        if self.policy is not None:
            files["final.safetensors"] = self.policy
        for name, raw in (files | self.raw).items():
            (folder / name).write_bytes(raw)


def packed(board: Path, folder: Path) -> Path:
    """Take a run out of a board and put it back packed, as the only run of `<board>/packed/<task>`, which is returned."""
    task, run = "/".join(folder.relative_to(board).parts[:2]), "/".join(folder.relative_to(board).parts[2:])
    alone = board.parent / "alone"
    shutil.copytree(folder, alone / task / run)
    shutil.rmtree(folder)
    pack(alone, board / "packed", check=False)
    shutil.rmtree(alone)
    return board / "packed" / task


def edit_lines(part: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the fields of the first line, and write it as it was written."""
    first, *others = (part / LINES).read_text().splitlines()
    line = json.loads(first)
    change(line)
    text = json.dumps(line, separators=(",", ":"))
    (part / LINES).write_text("".join(f"{row}\n" for row in (text, *others)))
