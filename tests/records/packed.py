"""What the tests of packed submissions share."""

from __future__ import annotations

from pathlib import Path

NETWORK, SMALL = "tests.shared.small:network", "tests.shared.small:Small"
OWN = ("--task", NETWORK, "--agent", SMALL)
STATUS = {"status": "finished", "resumed": 0, "error": "", "kernel": "torch", "device": "cpu", "inherit": None}


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
