"""Shipped weights and tables: each file with its SHA-256 in SHA256SUMS, checked whenever it is read.

Another instance of a task, built by `python -m banel_envs.build NAME --instance k --out DIR`, stands in for what ships
in every process that the environment variable BANEL_ASSETS names DIR to. Its digest goes into ledgers and records, and
the board keeps it in a table of its own.
"""

from __future__ import annotations

import hashlib
import os
import re
from functools import cache
from pathlib import Path

from banel_envs.errors import AssetError, FileMissing, FileRefused
from banel_envs.files import safe_files, safe_npz
from banel_envs.files.visible import shown

FOLDER = Path(__file__).parent
SUMS = "SHA256SUMS"
VARIABLE = "BANEL_ASSETS"
MOST_SUMS = 2**20  # bytes of SHA256SUMS
LINE = re.compile(r"[0-9a-f]{64} +\w[\w.-]*")
AGAIN = "install banel-envs again"


@cache
def digests() -> dict[str, str]:
    """SHA-256 by file name: as released, but for the files of an instance that BANEL_ASSETS names."""
    return {name: digest for name, (_, digest) in _listed().items()}


@cache
def _listed() -> dict[str, tuple[Path, str]]:
    """Folder and SHA-256 by file name."""
    listed = _read(FOLDER, AGAIN)
    instance = os.environ.get(VARIABLE)
    if instance:
        made = "python -m banel_envs.build NAME --instance k --out DIR makes one"
        listed |= _read(Path(instance).absolute(), f"{VARIABLE} must name the folder of an instance ({made})")
    return listed


def _read(folder: Path, way_out: str) -> dict[str, tuple[Path, str]]:
    try:
        lines = safe_files.read(folder / SUMS, MOST_SUMS, links=True).decode().splitlines()
    except (FileRefused, UnicodeDecodeError) as error:
        raise AssetError(f"{error}; {way_out}") from error
    if odd := [line for line in lines if not LINE.fullmatch(line)]:
        raise AssetError(f"{folder / SUMS}: {shown(odd[0])} is not a SHA-256 and the name of a file; {way_out}")
    return {name: (folder, digest) for digest, name in (line.split(maxsplit=1) for line in lines)}


def asset(name: str) -> Path:
    """The path of a shipped file, or of the instance's that stands in for it, once its SHA-256 has been checked.

    Raises:
        AssetError: missing, or not the listed bytes; names the file and both hashes.
    """
    if name not in _listed():
        raise AssetError(f"{name} is not among the shipped files: {', '.join(_listed())}")
    folder, expected = _listed()[name]
    path, way_out = folder / name, AGAIN if folder == FOLDER else "build the instance again"
    try:
        content = safe_files.read(path, safe_files.TABLE, links=True)  # an installer may link what it installs
    except FileMissing:
        raise AssetError(f"{path} is missing (expected SHA-256 {expected}); {way_out}") from None
    except FileRefused as error:
        raise AssetError(f"{error}; {way_out}") from error
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise AssetError(f"{path} was altered: SHA-256 {actual}, expected {expected}; {way_out}")
    if folder != FOLDER and path.suffix == ".npz":  # whoever made the instance wrote its sums, too
        try:
            safe_npz.tables(content, safe_files.TABLE)
        except ValueError as error:
            raise AssetError(f"{path} is no table: {error}; {way_out}") from error
    return path


def combined_digest(*names: str) -> str:
    """One SHA-256 over the released digests of several files: what a ledger binds."""
    return hashlib.sha256(" ".join(digests()[name] for name in names).encode()).hexdigest()


def write_digests(folder: Path) -> None:
    """Record the SHA-256 of every asset in the folder (called by builds)."""
    files = sorted(p for p in folder.iterdir() if p.suffix in {".safetensors", ".npz"})
    (folder / SUMS).write_text("".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in files))
