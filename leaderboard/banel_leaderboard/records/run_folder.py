"""The folder of a run: the files in it, the run's status, and what is read back from them.

OUT/<task>/<agent>/<feedback>/seed-<k>/
    ledger.jsonl       every question and every answer, each written before it is used
    record.json        what was measured (RunRecord); it is written last, so a run with a record is finished
    final.safetensors  the policy at the budget; grid/ holds the policy of each place of the grid
    run.json           the status, how often the run was resumed, and where its task and agent are found
    log.txt            progress
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from banel_envs import kernel
from banel_envs.errors import AssetError, BadJson, BadValue, FileMissing, FileRefused
from banel_envs.files import safe_files, strict_json
from banel_envs.policies import Policy, load_policy_file
from banel_envs.problem import Problem
from banel_leaderboard.records.record import RecordError, RunRecord
from banel_leaderboard.records.spec import Spec

LINES = "records.jsonl"  # the records in a part of a packed submission, see packed.py
LEDGER, RECORD, FINAL, STATUS, LOG = "ledger.jsonl", "record.json", "final.safetensors", "run.json", "log.txt"
_TYPES: dict[str, Any] = {"status": str, "resumed": int, "error": str}
# The fields of a Spec that say where things are. No record has them, because another person's machine has other places.
WHERE = ("task", "agent", "device", "oracle", "inherit")
_TYPES |= {name: str if name in ("task", "agent", "device") else str | None for name in WHERE}


def check_folder(folder: Path) -> None:
    """Check that runs can be written to a folder; BadValue if it, or a folder above it, is a file."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise BadValue(f"{there} is a file; name a folder for the runs")


def check_out(folder: Path) -> None:
    """Check the folder of all runs; BadValue if it is a file, lies in a file, or holds a packed submission."""
    check_folder(folder)
    # A packed run cannot be resumed: its ledger is compressed, and its file holds other runs too.
    packed = next(folder.glob(f"*/*/{LINES}"), None)
    if packed is not None:
        raise BadValue(
            f"{folder} holds a packed submission ({packed.parent}); to go on with its runs, unpack it first: "
            f"banel unpack {folder} --out runs"
        )


def note_start(folder: Path, spec: Spec, started: bool) -> int:
    """Note in run.json that a run starts or is resumed; how often it has been resumed, this time included.

    Args:
        folder: the folder of the run.
        spec: what the run is asked to be.
        started: whether the run was started before, so that it is now resumed.
    """
    resumed = int(read_status(folder).get("resumed", 0)) + 1 if started else 0
    write_status(folder, spec, "running", resumed)
    return resumed


def write_status(folder: Path, spec: Spec, status: str, resumed: int, error: str = "") -> None:
    """Write run.json: the status of the run, and where its task, agent and answers are found."""
    fields = {"status": status, "resumed": resumed, "error": error, "kernel": started_with(folder)}
    fields |= {name: getattr(spec, name) for name in WHERE}
    safe_files.write(folder / STATUS, (json.dumps(fields, indent=1) + "\n").encode(), folder / f"{STATUS}.tmp")


def stopped_at_the_end(folder: Path) -> bool:
    """Whether a finished run was killed before its run.json said so."""
    try:
        # Most say it in other words, and then they need not be parsed.
        said = b'"running"' in safe_files.read(folder / STATUS, safe_files.STATUS)
    except FileRefused:
        return False
    return said and read_status(folder).get("status") == "running"


def read_status(folder: Path) -> dict[str, Any]:
    """What run.json says; nothing if it is missing, damaged or no regular file, because no measured number depends on it.

    A field of the wrong type is left out. `kernel` may have any type: `started_with` reads an unknown one as no kernel.
    """
    try:
        fields = strict_json.loads(safe_files.read(folder / STATUS, safe_files.STATUS))
    except (FileRefused, BadJson):
        return {}
    if not isinstance(fields, dict):
        return {}
    return {name: value for name, value in fields.items() if isinstance(value, _TYPES.get(name, object))}


def started_with(folder: Path) -> str:
    """The kernel that a run must go on with.

    With another kernel the last bits of log-probabilities differ, and the agent could ask other questions. A new run takes
    the kernel that is installed.
    """
    status = read_status(folder)
    # A run.json without this field is older than the kernel, so its run was computed by PyTorch's operations.
    noted = status.get("kernel", kernel.TORCH if status else None)
    return kernel.nearest(noted) if noted in kernel.KINDS else kernel.kind()


def device_of(folder: Path) -> str:
    """The device that a run was computed on, according to run.json; "cpu" if run.json does not say."""
    return str(read_status(folder).get("device", "cpu"))


def load_policy(folder: str | Path, problem: Problem | None = None) -> Policy:
    """The final policy of a run, from its folder.

    Raises:
        AssetError: there is no policy, it is damaged, or it writes no sequences of the problem.
    """
    path = Path(folder) / FINAL
    if not (path.exists() or path.is_symlink()):
        raise AssetError(f"{folder} holds no {FINAL}: {why_no_policy(Path(folder))}")
    return load_policy_file(path, problem=problem)


def load_record(folder: Path) -> RunRecord:
    """The record of a finished run; RecordError, which says how the record is made again, if it is damaged."""
    try:
        return RunRecord.load(folder / RECORD)
    except RecordError as error:
        raise RecordError(f"{error}; {made_again(folder)}") from error


def made_again(folder: Path) -> str:
    """What to do with a finished run whose files are damaged, in words."""
    return (
        f"restore the file, or remove {folder / RECORD} and run the same command: it makes the record and the policy again "
        f"from the ledger and asks nothing a second time. If the ledger is damaged too, remove the folder"
    )


def why_no_policy(folder: Path) -> str:
    """Why the folder of a run holds no final policy, and what to do."""
    if not (folder / LEDGER).is_file():
        return f"it is not the folder of a run; name one that holds {RECORD}, OUT/<task>/<agent>/<feedback>/seed-<k>"
    if not (folder / RECORD).is_file():
        return "the run is not finished; run the same command again, and it goes on where it was"
    if RunRecord.load(folder / RECORD).policy_sha256 is None:
        return "the run is finished, and its policy has no stored form; let the agent yield a policy that save_policy takes"
    return "the file was left out, as in committed runs; run the same command with another --out to make it again"


def file_sha256(path: Path) -> str | None:
    """SHA-256 of a policy's file; None if there is no file; FileRefused if it is a link, a pipe or too large."""
    try:
        return safe_files.sha256(path, safe_files.POLICY)
    except FileMissing:
        return None
