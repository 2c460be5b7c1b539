"""Policies that are not those of the run, and rates that they do not have."""

from __future__ import annotations

import json
import pickle  # to make one: nothing here ever loads one
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from banel_envs import TASKS
from banel_envs.policies import Mixture, Repeating
from benchmarks.forgeries.change import TASK, Change, Harm, plant_code, put_bytes
from benchmarks.forgeries.forging import Forged


def kind_names_code(folder: Path, place: Path) -> None:
    plant_code(place, "evil")
    path = folder / "final.safetensors"
    tensors = load_file(path)
    store(folder, tensors, json.dumps({"kind": "evil:Agent", "config": {}}), place)


def store(folder: Path, tensors: dict[str, Any], spec: str, place: Path) -> None:
    draft = place / "draft.safetensors"
    save_file(tensors, draft, metadata={"policy": spec})
    forged = Forged.read(folder)
    forged.store(draft.read_bytes())
    forged.write(folder)


class Canary:
    """Leaves a file behind when it is unpickled, which shows that the pickle was loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


def pickled(folder: Path, place: Path) -> None:
    content = pickle.dumps(Canary(str(place / "canary")))
    put_bytes(content, "final.safetensors")(folder, place)


def type_rates(f: Forged, _: Path) -> None:
    f.claim(-0.01, points=slice(1, None))


def type_rates_without_policy(f: Forged, place: Path) -> None:
    type_rates(f, place)
    f.policy, f.record["policy_sha256"] = None, None


def better_policy(f: Forged, place: Path) -> None:
    from banel_envs import success_rate
    from banel_envs.policies import load_policy_file

    (place / "old").write_bytes(f.policy or b"")
    successes = TASKS[TASK].successes()
    assert successes is not None
    mixed = Mixture([load_policy_file(place / "old"), Repeating(successes[0], TASKS[TASK].problem.V)])
    f.use(mixed, place / "new")
    known = np.concatenate([t[r == 1] for t, r in f.asks])
    for name, exclude in (("success", None), ("fresh", known)):
        rate = success_rate(TASKS[TASK], mixed, exclude=exclude)
        f.claim(rate.log10 or -np.inf, name)
        f.record["points"][-1][name]["effective"] = rate.effective


def other_policy(f: Forged, place: Path) -> None:
    successes = TASKS[TASK].successes()
    assert successes is not None
    f.use(Repeating(successes[0], TASKS[TASK].problem.V), place / "new")


def lying_region(f: Forged, place: Path) -> None:
    """A region whose counted mass is a lie: its policy's rate comes out a thousand times too large."""
    from banel_envs.policies import load_policy_file, save_policy
    from banel_envs.policies.composed.filtered import Filtered

    (place / "old").write_bytes(f.policy or b"")
    policy = load_policy_file(place / "old")
    lying = Filtered(policy, [policy], [-1.0], 1_000_000, 1_100)  # the region holds everything
    save_policy(place / "new", lying)
    f.store((place / "new").read_bytes())
    for point in f.record["points"][-1:]:
        for name in ("success", "fresh"):
            value = point[name]["log10"] + np.log10(1_000_000 / 1_100)
            point[name] |= {"log10": value, "low": value - 0.03, "high": value + 0.03, "method": "filtered"}


def nested_regions(levels: int, mixed: bool) -> Change:
    """Regions that hold everything and claim a third each, one inside the other, or inside a mixture."""

    def change(f: Forged, place: Path) -> None:
        from banel_envs.policies import Policy, load_policy_file
        from banel_envs.policies.composed.filtered import Filtered

        (place / "old").write_bytes(f.policy or b"")
        policy: Policy = load_policy_file(place / "old")
        for _ in range(levels):
            policy = Filtered(policy, [], [], 3, 1)
        f.use(Mixture([policy]) if mixed else policy, place / "new")
        for name in ("success", "fresh"):
            value = f.record["points"][-1][name]["log10"] + levels * np.log10(3)
            f.record["points"][-1][name] |= {"log10": value, "low": value, "high": value}

    return change


def beyond_vocabulary(f: Forged, _: Path) -> None:
    f.asks[0][0][0, :] = 15  # 12 tokens take 4 bits


def edit_weights(edit: Callable[[dict[str, Any]], None]) -> Harm:
    def apply(folder: Path, place: Path) -> None:
        from safetensors import safe_open

        with safe_open(folder / "final.safetensors", "numpy") as file:
            spec = file.metadata()["policy"]
        tensors = load_file(folder / "final.safetensors")
        edit(tensors)
        store(folder, tensors, spec, place)

    return apply


def first_matrix(tensors: dict[str, Any]) -> str:
    return next(name for name, array in tensors.items() if array.dtype == np.float32 and array.ndim == 2)


def nan_weights(tensors: dict[str, Any]) -> None:
    tensors[first_matrix(tensors)][:] = np.nan


def whole_numbers(tensors: dict[str, Any]) -> None:
    tensors[first_matrix(tensors)] = tensors[first_matrix(tensors)].astype(np.int32)


def other_shape(tensors: dict[str, Any]) -> None:
    tensors[first_matrix(tensors)] = tensors[first_matrix(tensors)][:1]


def other_structure(spec: Any) -> Harm:
    return lambda folder, place: store(folder, load_file(folder / "final.safetensors"), json.dumps(spec), place)


def deep_mixture(folder: Path, place: Path) -> None:
    inner = '{"kind":"uniform","vocabulary":12,"horizon":8,"end":11}'
    spec = '{"kind":"mixture","members":[' * 50_000 + inner + "]}" * 50_000
    store(folder, {"none": np.zeros(0)}, spec, place)


def type_unasked(f: Forged, _: Path) -> None:
    """As if nearly everything had been asked: a higher next-question rate."""
    f.record["unasked"] = f.record["points"][-1]["fresh"]["log10"] + 0.1


def type_effective(f: Forged, _: Path) -> None:
    f.record["points"][-1]["success"]["effective"] = 20_000.0
