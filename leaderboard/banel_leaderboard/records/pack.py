"""pack: finished runs into a packed submission; see packed.py for its form and its limits."""

from __future__ import annotations

import hashlib
import lzma
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from banel_envs.errors import BadJson, BadValue, BanelError, FileRefused
from banel_envs.files import safe_files
from banel_envs.files.visible import shown
from banel_envs.meter.ledger import Ledger
from banel_leaderboard.records import packed
from banel_leaderboard.records.packed import MOST_FILE
from banel_leaderboard.records.record import RecordError, RunRecord
from banel_leaderboard.records.run_folder import FINAL, LEDGER, LINES, RECORD, STATUS, made_again
from banel_leaderboard.records.verify import check_policy, verify

TOGETHER = 12_000_000  # bytes of ledgers that one stream is started for; of base64, they take about 9 million
FILTERS = ({"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 2**24},)


@dataclass
class Packing:
    """How much was packed."""

    runs: int = 0
    files: int = 0
    bytes: int = 0
    unpacked: int = 0  # bytes of what was packed, as it stood in the folders
    unfinished: int = 0  # runs without a record, which were left out


def pack(folder: Path, out: Path, policies: bool = True, *, check: bool = True) -> Packing:
    """Pack every finished run below a folder: its record, its ledger, run.json and its final policy.

    Progress (log.txt) and the policies of the grid stay behind: nothing of the board rests on them.

    Args:
        folder: the one that was handed to --out; runs stand in `<namespace>/<Name>-v<k>/` in it.
        out: a new folder, or an empty one; it is made whole or not at all.
        policies: whether final policies are taken along.
        check: whether each record is compared with its ledger and its policy. Only whoever tries out forged runs leaves it out.

    Raises:
        BadValue: the files of a run contradict each other, a limit of packed.py is passed, a run stands elsewhere, or `out` is
            not new; says which run and what to do.
        BanelError: a file of a run is missing, damaged or no regular file.
    """
    done = Packing()
    parts = _parts(folder, done)
    with new_folder(out) as draft:
        for task, runs in parts.items():
            _pack_part(folder, task, runs, draft, policies, check, done)
    return done


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A draft that becomes the folder `out` once the body is done, and vanishes if it fails; BadValue if `out` is not new."""
    try:
        if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
            raise BadValue(f"--out is {out}, which is there already; name a new folder, or an empty one")
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise BadValue(f"--out is {out}, which cannot be made: {error.strerror}") from error
    try:
        yield draft
        draft.chmod(0o755)  # mkdtemp makes a folder that only its owner can read
        if out.is_dir():
            out.rmdir()  # an empty one, which not every system replaces when the draft is renamed
        draft.rename(out)
    except OSError as error:
        raise BadValue(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        rmtree(draft, ignore_errors=True)


def _parts(folder: Path, done: Packing) -> dict[str, list[str]]:
    """The finished runs of each task, as they stand below it, both in order."""
    if not folder.is_dir():
        raise BadValue(f"{folder} is not a folder; name the one that was handed to --out")
    found = safe_files.find(folder, RECORD, LEDGER, LINES)
    if found.refused:
        path, reason = found.refused[0]
        raise BadValue(f"{path}: {reason}; nothing was packed")
    # Ledgers are looked for only to count the runs that are not finished.
    names = {name: [p.parent for p in found.paths if p.name == name] for name in (RECORD, LEDGER, LINES)}
    if names[LINES]:
        raise BadValue(f"{names[LINES][0]} is packed already; name a folder of runs")
    if not names[RECORD]:
        raise BadValue(f"{folder} holds no finished run; name the folder that was handed to --out")
    done.unfinished = len(set(names[LEDGER]) - set(names[RECORD]))
    parts: dict[str, list[str]] = {}
    for place in names[RECORD]:
        steps = place.relative_to(folder).as_posix().split("/")
        run = "/".join(steps[2:])
        if not re.fullmatch(packed.RUN, run):
            raise BadValue(
                f"the run {shown(str(place))} is not in a folder <task>/<agent>/<feedback>/seed-<k> below {folder}; name the "
                f"folder that was handed to --out, and give folders names of letters, digits and '_.+=-'"
            )
        parts.setdefault("/".join(steps[:2]), []).append(run)
    return {task: sorted(parts[task]) for task in sorted(parts)}


def _pack_part(
    folder: Path, task: str, runs: Sequence[str], draft: Path, policies: bool, check: bool, done: Packing
) -> None:
    part = draft / task
    part.mkdir(parents=True)
    ledgers, kept = _Ledgers(part, done), _Policies(part, done)
    lines: list[tuple[dict[str, Any], str | None, str]] = []
    for run in runs:
        place = folder / task / run
        content = safe_files.read(place / RECORD, safe_files.RECORD, below=folder)
        record = RunRecord.parse(content, place / RECORD)
        if record.task != task:
            raise BadValue(f"{place} is a run of {record.task}, not of {task}; put it into the folder of its task")
        line: dict[str, Any] = {"packed": packed.PACKED, "run": run}
        ledger = safe_files.read(place / LEDGER, packed.MOST_UNPACKED, below=folder)
        line["ledger"] = ledgers.add(place, ledger)
        policy = _optional(place / FINAL, safe_files.POLICY, folder) if policies else None
        if check:
            _check(place, folder, record, policy)
        line["policy"] = None if policy is None else kept.add(place, policy)
        status = _optional(place / STATUS, safe_files.STATUS, folder)
        lines.append((line, _value(place, status), packed.record_value(content)))
        done.unpacked += sum(len(file) for file in (content, ledger, policy, status) if file is not None)
        done.runs += 1
        if done.unpacked > packed.MOST_UNPACKED:
            raise BadValue(
                f"up to {place} the runs have {done.unpacked:,} bytes; a submission is made of at most "
                f"{packed.MOST_UNPACKED:,}: hand in fewer tasks at once, or leave the policies out (--without-policies)"
            )
    ledgers.flush()
    kept.flush()
    if len(lines) > packed.MOST_RUNS:
        raise BadValue(f"{task} has {len(lines):,} runs; at most {packed.MOST_RUNS:,} are packed: hand in fewer")
    _store(part / LINES, b"".join(packed.compose(*line) for line in lines), done)
    try:
        packed.read_lines(part)  # two runs whose names differ in large and small letters only, one in another's folder
    except RecordError as error:
        raise BadValue(str(error).replace(str(part), str(folder / task))) from error


def _check(place: Path, folder: Path, record: RunRecord, policy: bytes | None) -> None:
    """BadValue if the files of a run contradict each other, as far as the board sees that without the task."""
    try:
        verify(record, Ledger.read(place / LEDGER, below=folder))
        check_policy(record, None if policy is None else hashlib.sha256(policy).hexdigest())
    except BanelError as error:
        raise BadValue(
            f"{place}: {str(error).removeprefix(f'{place}: ')}; nothing was packed. The board would refuse this run: "
            f"{made_again(place)}"
        ) from error


def _optional(path: Path, most: int, below: Path) -> bytes | None:
    return safe_files.read(path, most, below=below) if path.exists() or path.is_symlink() else None


def _value(place: Path, status: bytes | None) -> str | None:
    try:
        return None if status is None else packed.status_value(status)
    except BadJson as error:
        raise FileRefused(f"{place / STATUS}: {error}; it is written by the harness") from error


def _store(path: Path, content: bytes, done: Packing, last: Path | None = None) -> None:
    """Write a packed file; BadValue where it or the submission is too large, naming the last run in it."""
    what = f"{path.parent.parent.name}/{path.parent.name}/{path.name}"
    upto = what if last is None else f"{what}, up to {last},"
    if len(content) > MOST_FILE:
        raise BadValue(
            f"{upto} has {len(content):,} bytes; a packed file has at most {MOST_FILE:,}: hand in fewer runs of the task"
        )
    done.files, done.bytes = done.files + 1, done.bytes + len(content)
    packed.check_total(done.files, done.bytes, f"the submission, up to {last or what},")
    path.write_bytes(content)


@dataclass
class _Ledgers:
    """The streams of a part, one after the other."""

    part: Path
    done: Packing
    waiting: list[tuple[Path, dict[str, Any], bytes]] = field(default_factory=list)
    files: int = 0

    def add(self, place: Path, content: bytes) -> dict[str, Any]:
        """Take a ledger in; its piece, in which the file's name is filled in later."""
        # The hashes follow from the lines, and they would not compress: they are random bytes, most of a packed ledger.
        bare = packed.without_hashes(content)
        if self.waiting and sum(len(b) for _, _, b in self.waiting) + len(bare) > TOGETHER:
            self.flush()
        sha256 = hashlib.sha256(content).hexdigest()
        piece = {"file": "", "packed": len(bare), "bytes": len(content), "sha256": sha256}
        self.waiting.append((place, piece, bare))
        return piece

    def flush(self) -> None:
        """Write what is waiting."""
        if self.waiting:
            self._write(self.waiting)
        self.waiting = []

    def _write(self, group: list[tuple[Path, dict[str, Any], bytes]]) -> None:
        content = lzma.compress(b"".join(bare for _, _, bare in group), check=lzma.CHECK_CRC32, filters=FILTERS)
        # How far ledgers compress is known only afterwards. A stream that became too large is written as two.
        if len(content) > MOST_FILE and len(group) > 1:
            self._write(group[: len(group) // 2])
            self._write(group[len(group) // 2 :])
            return
        name = f"ledgers-{self.files:03}.xz"
        _store(self.part / name, content, self.done, group[-1][0])
        for _, piece, _ in group:
            piece["file"] = name
        self.files += 1


@dataclass
class _Policies:
    """The policies of a part: each content once, and as many in a file as fit."""

    part: Path
    done: Packing
    pieces: dict[str, dict[str, Any]] = field(default_factory=dict)  # by SHA-256
    waiting: dict[str, bytes] = field(default_factory=dict)
    last: Path | None = None
    files: int = 0

    def add(self, place: Path, content: bytes) -> dict[str, Any]:
        """Take a policy in; its piece."""
        name = hashlib.sha256(content).hexdigest()
        # Agents without a learnt policy have the same final policy under every seed. It is stored once.
        if name in self.pieces:
            return self.pieces[name]
        if self.waiting and len(_header({**self.waiting, name: content})) + self._size() + len(content) > MOST_FILE:
            self.flush()
        self.waiting[name], self.last = content, place
        file = f"policies-{self.files:03}.safetensors"
        self.pieces[name] = {"file": file, "bytes": len(content), "sha256": name}
        return self.pieces[name]

    def flush(self) -> None:
        """Write what is waiting."""
        if self.waiting:
            content = _header(self.waiting) + b"".join(self.waiting.values())
            _store(self.part / f"policies-{self.files:03}.safetensors", content, self.done, self.last)
            self.files += 1
        self.waiting = {}

    def _size(self) -> int:
        return sum(map(len, self.waiting.values()))


def _header(policies: dict[str, bytes]) -> bytes:
    return packed.policies_header((name, len(content)) for name, content in policies.items())
