"""A run's folder: the names in it, how the run stands, and what is read back from it.

OUT/<task>/<agent>/<feedback>/seed-<k>/
    ledger.jsonl       every question and answer, written ahead
    record.json        what was measured (RunRecord); written last, so its presence means finished
    final.safetensors  the policy at the budget; grid/ has the one of every grid point
    run.json           status, resumes, where task and agent are found: what a rerun may change
    log.txt            progress
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from banel_envs import kernel
from banel_envs.errors import AssetError, BadJson, BadValue, FileRefused
from banel_envs.files import safe_files, strict_json
from banel_envs.policies import Policy, load_policy_file
from banel_envs.problem import Problem
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.spec import Spec

LINES = "records.jsonl"  # of a packed submission, see packed.py
LEDGER, RECORD, FINAL, STATUS, LOG = "ledger.jsonl", "record.json", "final.safetensors", "run.json", "log.txt"
_TYPES: dict[str, Any] = {"status": str, "resumed": int, "error": str}
WHERE = ("task", "agent", "device", "oracle", "inherit")  # of a Spec: what the record does not say of where things are
_TYPES |= {name: str if name in ("task", "agent", "device") else str | None for name in WHERE}


def check_folder(folder: Path) -> None:
    """BadValue if the folder, or one that it is in, is a file."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise BadValue(f"{there} is a file; name a folder for the runs")


def check_out(folder: Path) -> None:
    """BadValue if the folder of all runs is a file, or is in one, or holds a packed submission."""
    check_folder(folder)
    packed = next(folder.glob(f"*/*/{LINES}"), None)
    if packed is not None:
        raise BadValue(
            f"{folder} holds a packed submission ({packed.parent}); to go on with its runs, unpack it first: "
            f"banel unpack {folder} --out runs"
        )


def begin(folder: Path, spec: Spec, begun: bool) -> int:
    """Note the start; how often the run was taken up again before this."""
    resumed = int(read_status(folder).get("resumed", 0)) + 1 if begun else 0
    write_status(folder, spec, "running", resumed)
    return resumed


def write_status(folder: Path, spec: Spec, status: str, resumed: int, error: str = "") -> None:
    """run.json: how the run stands, and where its task, agent and answers are found."""
    fields = {"status": status, "resumed": resumed, "error": error, "kernel": begun_with(folder)}
    fields |= {name: getattr(spec, name) for name in WHERE}
    safe_files.write(folder / STATUS, (json.dumps(fields, indent=1) + "\n").encode(), folder / f"{STATUS}.tmp")


def read_status(folder: Path) -> dict[str, Any]:
    """run.json of a run; empty if it is missing, damaged or no regular file, since no measured number rests on it.

    A field of the wrong type is left out, but for `kernel`, of which any strange word says that nothing is known.
    """
    try:
        fields = strict_json.loads(safe_files.read(folder / STATUS, safe_files.STATUS))
    except (FileRefused, BadJson):
        return {}
    if not isinstance(fields, dict):
        return {}
    return {name: value for name, value in fields.items() if isinstance(value, _TYPES.get(name, object))}


def begun_with(folder: Path) -> str:
    """What a begun run has to go on computing with, as other last bits would ask other questions; of a new one what there is."""
    status = read_status(folder)
    noted = status.get("kernel", kernel.TORCH if status else None)
    return kernel.nearest(noted) if noted in kernel.KINDS else kernel.kind()


def device_of(folder: Path) -> str:
    """The device that a run was computed on, as run.json says; cpu where it says nothing."""
    return str(read_status(folder).get("device", "cpu"))


def load_policy(folder: str | Path, problem: Problem | None = None) -> Policy:
    """The final policy of a run, from its folder.

    Raises:
        AssetError: there is none, it is damaged, or it writes no sequences of the problem.
    """
    path = Path(folder) / FINAL
    if not (path.exists() or path.is_symlink()):
        raise AssetError(f"{folder} holds no {FINAL}: {why_no_policy(Path(folder))}")
    return load_policy_file(path, problem=problem)


def why_no_policy(folder: Path) -> str:
    """Why the folder of a run holds no final policy, and what to do."""
    if not (folder / LEDGER).is_file():
        return f"it is not the folder of a run; name one that holds {RECORD}, OUT/<task>/<agent>/<feedback>/seed-<k>"
    if not (folder / RECORD).is_file():
        return "the run is not finished; run the same command again, and it goes on where it was"
    if RunRecord.load(folder / RECORD).policy_sha256 is None:
        return "the run is finished, and its policy has no stored form; let the agent yield a policy that save_policy takes"
    return "the file was left out, as it is where runs are committed; run the same once more into another folder to have it"
