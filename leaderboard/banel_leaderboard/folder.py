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
from banel_envs.errors import AssetError, BadValue
from banel_envs.policies import Policy, load_policy_file
from banel_leaderboard.spec import Spec

LEDGER, RECORD, FINAL, STATUS, LOG = "ledger.jsonl", "record.json", "final.safetensors", "run.json", "log.txt"
WHERE = ("task", "agent", "device", "oracle", "inherit")  # of a Spec: what the record does not say of where things are


def check_folder(folder: Path) -> None:
    """BadValue if the folder, or one that it is in, is a file."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise BadValue(f"{there} is a file; name a folder for the runs")


def begin(folder: Path, spec: Spec, begun: bool) -> int:
    """Note the start; how often the run was taken up again before this."""
    resumed = int(read_status(folder).get("resumed", 0)) + 1 if begun else 0
    write_status(folder, spec, "running", resumed)
    return resumed


def write_status(folder: Path, spec: Spec, status: str, resumed: int, error: str = "") -> None:
    """run.json: how the run stands, and where its task, agent and answers are found."""
    fields = {"status": status, "resumed": resumed, "error": error, "kernel": begun_with(folder)}
    fields |= {name: getattr(spec, name) for name in WHERE}
    draft = folder / f"{STATUS}.tmp"
    draft.write_text(json.dumps(fields, indent=1) + "\n")
    draft.replace(folder / STATUS)


def read_status(folder: Path) -> dict[str, Any]:
    """run.json of a run; empty if it is missing or damaged, since no measured number rests on it."""
    try:
        fields = json.loads((folder / STATUS).read_text())
    except (OSError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}


def begun_with(folder: Path) -> str:
    """What a begun run has to go on computing with, as other last bits would ask other questions; of a new one what there is."""
    status = read_status(folder)
    noted = status.get("kernel", kernel.TORCH if status else None)
    return kernel.nearest(noted) if noted in kernel.KINDS else kernel.kind()


def device_of(folder: Path) -> str:
    """The device that a run was computed on, as run.json says; cpu where it says nothing."""
    return str(read_status(folder).get("device", "cpu"))


def load_policy(folder: str | Path) -> Policy:
    """The final policy of a run, from its folder.

    Raises:
        AssetError: there is none, or it is damaged.
    """
    path = Path(folder) / FINAL
    if not path.is_file():
        raise AssetError(f"{folder} holds no {FINAL}: the run is not finished, or its policy has no stored form")
    return load_policy_file(path)
