"""Shipped weights and tables: each file with its SHA-256 in SHA256SUMS, checked whenever it is read."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from banel_envs.errors import AssetError

FOLDER = Path(__file__).parent
SUMS = "SHA256SUMS"


@cache
def digests() -> dict[str, str]:
    """SHA-256 by file name, as released."""
    try:
        lines = (FOLDER / SUMS).read_text().splitlines()
    except OSError as error:
        raise AssetError(f"{FOLDER / SUMS} cannot be read: {error}; install banel-envs again") from error
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def asset(name: str) -> Path:
    """The path of a shipped file, once its SHA-256 has been checked.

    Raises:
        AssetError: missing, or not the released bytes; names the file and both hashes.
    """
    path, expected = FOLDER / name, digests().get(name)
    if expected is None:
        raise AssetError(f"{name} is not among the shipped files: {', '.join(digests())}")
    if not path.is_file():
        raise AssetError(f"{path} is missing (expected SHA-256 {expected}); install banel-envs again")
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != expected:
        raise AssetError(f"{path} was altered: SHA-256 {actual}, expected {expected}; install banel-envs again")
    return path


def combined_digest(*names: str) -> str:
    """One SHA-256 over the released digests of several files: what a ledger binds."""
    return hashlib.sha256(" ".join(digests()[name] for name in names).encode()).hexdigest()


def write_digests(folder: Path) -> None:
    """Record the SHA-256 of every asset in the folder (called by builds)."""
    files = sorted(p for p in folder.iterdir() if p.suffix in {".safetensors", ".npz"})
    (folder / SUMS).write_text("".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in files))
