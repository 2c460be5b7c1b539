"""Replay many runs at once, and give a verdict on each of them. An agent that crashes cannot end the other replays."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from banel_envs.errors import BadValue, BanelError
from banel_envs.files.visible import terminal
from banel_leaderboard.proving.replay import prove
from banel_leaderboard.proving.standing import Attestation, attest
from banel_leaderboard.running.lookup import CannotTell, Known, own_code


@dataclass(frozen=True)
class Verdict:
    """The result of replaying one run."""

    folder: Path
    status: Literal["proved", "disproved", "not proved here"]
    reason: str = ""
    attestation: Attestation | None = None


@dataclass(frozen=True)
class Proving:
    """Which code of the user's own the runs may be replayed with. It can be sent to another process."""

    tasks: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()

    def verdict(self, folder: Path) -> Verdict:
        """Replay one run. Every error that its agent raises becomes a verdict on this run."""
        try:
            proof = prove(folder, _known(self))
        except CannotTell as error:
            return Verdict(folder, "not proved here", _line(error))
        except BanelError as error:
            return Verdict(folder, "disproved", _line(error))
        except Exception as error:
            return Verdict(folder, "not proved here", f"{type(error).__name__}: {_line(error)}")
        if proof.answers is not None:
            return Verdict(folder, "not proved here", f"its questions are proved, but not its answers: {proof.answers}")
        return Verdict(folder, "proved", attestation=attest(proof.record))


@cache
def _known(proving: Proving) -> Known:
    """The code that the command line names. It is imported once in each process."""
    return own_code(proving.tasks, proving.agents)


def draw(folders: Sequence[Path], k: int, seed: int) -> list[Path]:
    """K of the runs, drawn without replacement by a stated seed; all runs if there are no more than K.

    The runs are put in an order by chance. The first run of every agent under every regime is taken, in that order, and then
    the first of the others. So each agent and regime has a run among them, as far as K reaches.

    Args:
        folders: one for each run, `.../agent/regime/seed-k`.
        k: how many.
        seed: of the draw.
    """
    if k < 1 or seed < 0:
        raise BadValue(f"a sample of {k} runs by seed {seed}; draw at least 1 run, by a seed of at least 0")
    order = np.random.default_rng(seed).permutation(len(folders)).tolist()
    firsts: dict[tuple[str, ...], int] = {}
    for i in order:
        firsts.setdefault(folders[i].parts[-3:-1], i)
    others = [i for i in order if i not in set(firsts.values())]
    return [folders[i] for i in sorted([*firsts.values(), *others][:k])]


def prove_all(
    folders: Sequence[Path], proving: Proving, jobs: int, told: Callable[[object], str] = str
) -> list[Verdict]:
    """A verdict on every run, in the order of the folders. Each run that is proved is also printed at once.

    Args:
        folders: one for each run.
        proving: with which code of a person's own.
        jobs: processes at once.
        told: how a folder is written in what is printed, see find_runs.Opened.told.
    """
    verdicts = {}
    with tqdm(total=len(folders), unit="run", disable=None, mininterval=0.5) as bar:
        for verdict in _verdicts(folders, proving, min(jobs, len(folders))):
            verdicts[verdict.folder] = verdict
            bar.update()
            bar.set_postfix(disproved=sum(v.status == "disproved" for v in verdicts.values()))
            if verdict.status == "proved":
                bar.write(terminal(f"proved {told(verdict.folder)}"))
    return [verdicts[folder] for folder in folders]


def _verdicts(folders: Sequence[Path], proving: Proving, jobs: int) -> Iterator[Verdict]:
    """The verdicts in the order in which they are ready, from this process or from `jobs` others."""
    _known(proving)  # a wrong name on the command line is found here, before anything is replayed
    if jobs <= 1:
        yield from map(proving.verdict, folders)
        return
    waiting = list(folders)
    # "spawn", because a forked child of a process that has started PyTorch's threads can hang.
    context = multiprocessing.get_context("spawn")
    while waiting:
        with ProcessPoolExecutor(jobs, context) as processes:
            places: dict[Future[Verdict], Path] = {processes.submit(proving.verdict, f): f for f in waiting}
            lost: list[Path] = []
            for future in as_completed(places):
                try:
                    yield future.result()
                except BrokenProcessPool:
                    lost.append(places[future])
        # When a process dies, the whole executor breaks and nobody knows which replay killed it. So the first of the lost
        # runs is tried alone, and the others are tried together again.
        if lost:
            yield _alone(lost[0], proving)
        waiting = lost[1:]


def _alone(folder: Path, proving: Proving) -> Verdict:
    """A verdict from a process of its own; if the process dies, no other replay is lost."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        try:
            return processes.submit(proving.verdict, folder).result()
        except BrokenProcessPool:
            return Verdict(folder, "not proved here", "its process ended before its replay did")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
