"""Many runs, each kept as a line of JSON as soon as it ends: a command that was killed goes on where it was.

A line is {"key": ..., "found": ..., "digest": the task's}. The key says everything that the result depends on, as far as a
setting can: two runs with one key are one run. `found["took"]` is what the run took in CPU seconds; before what is missing is
begun, its time is estimated.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from banel_agents import make_agent
from banel_envs import TASKS
from banel_envs.errors import BadValue, BanelError
from banel_envs.files.visible import shown

Line: TypeAlias = dict[str, Any]
Failed: TypeAlias = list[tuple[Line, BaseException]]
Measure: TypeAlias = Callable[[Line], Line]


class RunsFailed(BanelError):
    """Some runs of a command ended with an error."""

    def __init__(self, failed: Sequence[tuple[Line, BaseException]]) -> None:
        (key, error), many = failed[0], len(failed)
        run = " ".join(str(key[part]) for part in ("agent", "settings", "task", "seed") if part in key)
        named = f"{many} run{'s' * (many != 1)} failed, all others are kept; the first, {run}"
        super().__init__(f"{named}: {type(error).__name__}: {error}")
        self.failed = failed


class Kept:
    """The finished runs of a file, or of none: then nothing outlives the command.

    Raises:
        BadValue: there can be no such file, or a line of it is damaged.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._found: dict[str, Line] = {}
        self._versions: dict[str, set[str]] = {}  # of each task, the digests that its runs name
        if path is None:
            return
        if not path.parent.is_dir() or path.is_dir():
            raise BadValue(f"{path} cannot be a file; make its folder first, or name another one")
        for line in lines(path) if path.exists() else ():
            self._found[name(line["key"])] = line["found"]
            self._note(line["key"], line.get("digest") or line["found"].get("digest"))

    def _note(self, key: Line, digest: str | None) -> None:
        if digest:
            self._versions.setdefault(key["task"], set()).add(digest)

    def check_versions(self, keys: Sequence[Line]) -> None:
        """BadValue unless runs of these keys may stand beside those that are there: other assets make another task."""
        for task in {key["task"]: None for key in keys}:
            here = _digest(task)
            others = self._versions.get(task, set()) - {here}
            if others:
                raise BadValue(
                    f"{self.path} has runs on {task} with the digest {min(others)[:8]}; here it has {(here or 'none')[:8]}: "
                    f"other assets make another task (BANEL_ASSETS); name another file"
                )

    def __getitem__(self, key: Line) -> Line:
        return self._found[name(key)]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, dict) and name(key) in self._found

    def add(self, key: Line, found: Line) -> None:
        """Keep a run."""
        self._found[name(key)] = found
        digest = _digest(key["task"])
        self._note(key, digest)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "found": found, "digest": digest}) + "\n")

    def seconds(self, keys: Sequence[Line]) -> float:
        """What the missing runs among these will take, in CPU seconds, by the finished ones of the same task and agent, or task.

        Raises:
            BadValue: a task has no finished run to go by.
        """
        alike: dict[tuple[str, ...], list[float]] = {}
        for key in (key for key in keys if key in self):
            for group in _groups(key):
                alike.setdefault(group, []).append(self[key]["took"])
        total = 0.0
        for key in (key for key in keys if key not in self):
            known = next((alike[group] for group in _groups(key) if group in alike), None)
            if known is None:
                raise BadValue(f"no run on {key['task']} has ended, so nothing is known of its time; make one first")
            total += median(known)
        return total


def _digest(task: str) -> str | None:
    """The digest of a registered task; None for another one."""
    return TASKS[task].digest if task in TASKS else None


def _groups(key: Line) -> tuple[tuple[str, ...], ...]:
    """What a run is alike to, the nearest first."""
    return (key["task"], key["agent"], key["config"]), (key["task"],)


def name(key: Line) -> str:
    """A key as text, the same for equal keys."""
    return json.dumps(key, sort_keys=True)


def lines(path: Path) -> list[Line]:
    """The lines of a file. A last one that is torn, because the command was killed while it wrote, is cut off."""
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    found = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            read = json.loads(line)
            found.append({**read, "key": dict(read["key"]), "found": dict(read["found"])})
        except (ValueError, TypeError, KeyError) as error:
            raise BadValue(
                f"{path}: line {number} is no run: {shown(line)}; remove it, and it is made again"
            ) from error
    return found


def key_of(agent: str, settings: Line, task: str, seed: int, **more: Any) -> Line:
    """The key of a run, its defaults spelt out: with other defaults it is another run."""
    config = json.dumps(asdict(make_agent(agent, settings).config))
    return {"agent": agent, "settings": settings, "task": task, "seed": seed, **more, "config": config}


def each(keys: Sequence[Line], measure: Measure, kept: Kept, jobs: int = 1) -> Iterator[Line]:
    """Make the runs that are missing, and give each key when its run is there: in order with one job, else as they end.

    Raises:
        BadValue: jobs is below 1, or the file has runs of another version of a task.
        RunsFailed: some runs ended with an error; it comes last, when all others are made and kept.
    """
    if jobs < 1:
        raise BadValue(f"jobs is {jobs}; it must be at least 1")
    kept.check_versions([key for key in keys if key not in kept])
    failed: Failed = []
    yield from (_in_turn(keys, measure, kept, failed) if jobs == 1 else _at_once(keys, measure, kept, jobs, failed))
    if failed:
        raise RunsFailed(failed)


def _in_turn(keys: Sequence[Line], measure: Measure, kept: Kept, failed: Failed) -> Iterator[Line]:
    for key in keys:
        try:
            if key not in kept:
                kept.add(key, measure(key))
        except Exception as error:
            failed.append((key, error))
            continue
        yield key


def _at_once(keys: Sequence[Line], measure: Measure, kept: Kept, jobs: int, failed: Failed) -> Iterator[Line]:
    yield from (key for key in keys if key in kept)
    missing = [key for key in keys if key not in kept]
    processes = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=one_thread)
    try:
        ends = {processes.submit(measure, key): key for key in missing}
        for end in as_completed(ends):
            if (why := end.exception()) is not None:
                failed.append((ends[end], why))
                continue
            kept.add(ends[end], end.result())
            yield ends[end]
    finally:
        processes.shutdown(cancel_futures=True)  # whoever stops waits for the runs that have begun, and no longer


def one_thread() -> None:
    """Let PyTorch compute on one thread: a run is one process, and sums in another order have other last bits."""
    import torch  # here, because a command's own process may have no use for it

    torch.set_num_threads(1)


def begin(keys: Sequence[Line], measure: Measure, kept: Kept, jobs: int, *, plan: bool) -> bool:
    """Say how long the missing runs will take, by one run of each task, which is made now if none is there; whether to go on."""
    of_task: dict[str, list[Line]] = {}
    for key in keys:
        of_task.setdefault(key["task"], []).append(key)
    probes = [several[0] for several in of_task.values() if not any(key in kept for key in several)]
    for _ in each(probes, measure, kept, jobs):
        pass
    missing = sum(key not in kept for key in keys)
    if not missing:
        print(f"{len(keys)} runs, none of them missing")
        return not plan
    minutes = kept.seconds(keys) / 60
    print(
        f"{len(keys)} runs, {missing} of them missing: about {minutes:.1f} core-minutes, by one run of each task or more"
    )
    return not plan
