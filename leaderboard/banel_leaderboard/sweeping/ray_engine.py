"""Run a sweep on a Ray cluster (extra `cluster`): each lane becomes a Ray task of one CPU.

The folder of the runs and the user's own modules must be on a disk that all nodes share, because nothing is uploaded. A Ray
worker computes nothing itself. It keeps a parent from which it forks each run, as on one machine; Ray has one worker for
each core and gives it lane after lane. The parent and its run end with the worker. If a node or worker dies, Ray sends its
lane out again, and the lane goes on from its ledgers.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import os
import platform
import socket
import sys
import uuid
from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from textwrap import shorten
from typing import Any

from banel_envs import kernel
from banel_envs.errors import BadValue, MissingExtra
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.sweeping.sweep import Lane, run_lane
from banel_leaderboard.sweeping.workers import Outcome, Workers

RETRIES = 3  # how often a lane is sent out again after its node or worker was lost
PATIENCE = 60.0  # seconds to wait for a ledger that a lost node still holds, before the lane is given up
IN_FLIGHT = 256  # the lanes that Ray knows of at once, if the cluster has fewer cores than half of that


def ray_engine(
    lanes: Sequence[Lane], workers: Workers, *, address: str | None = None, jobs: int = 1, retries: int = RETRIES
) -> Generator[Outcome, None, None]:
    """The engine of a Ray cluster. It makes one Ray task of one CPU for each lane; closing it cancels these tasks.

    Args:
        lanes: see sweep.lanes_of.
        workers: starts the runs; its folder is one that all nodes share.
        address: the address of the cluster, such as "10.0.0.1:6379" or "auto". By default it is RAY_ADDRESS; if that is
            not set, a cluster of this machine alone is started, which ends with the sweep.
        jobs: the CPUs of the cluster of this machine alone.
        retries: how often a lane is sent out again after its node or worker was lost.

    Raises:
        MissingExtra: Ray is not installed.
        BadValue: there is no cluster at this address, or this Python or Ray cannot join it.
    """
    # A node has a working folder of its own, so a relative path would lead somewhere else there.
    workers = dataclasses.replace(workers, out=workers.out.absolute(), patience=PATIENCE)
    mark = workers.out / f".ray-{uuid.uuid4().hex}"
    ray = connect(address, jobs)
    tasks: dict[Any, list[Spec]] = {}
    try:
        workers.out.mkdir(parents=True, exist_ok=True)
        mark.touch()
        remote = ray.remote(num_cpus=1, max_retries=retries, num_returns="streaming")(run_remote)
        waiting = iter(lanes)
        # Ray's own work grows with the tasks that it holds, so it is given no more than keep all cores busy.
        most = max(IN_FLIGHT, 2 * int(ray.cluster_resources().get("CPU", 0)))
        while True:
            for lane in islice(waiting, most - len(tasks)):
                tasks[remote.remote(lane, workers, mark, Path.cwd())] = list(lane)
            if not tasks:
                return
            yield from _outcomes(ray, tasks)
    finally:
        for task in tasks:
            ray.cancel(task, force=True)
        ray.shutdown()
        mark.unlink(missing_ok=True)


def connect(address: str | None, jobs: int) -> Any:
    """Ray, connected to the cluster. Its workers have the modules and the BANEL_ variables of this process."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtra(f"--engine ray needs {error.name}: pip install 'banel-envs[cluster]'") from error
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    own = {name: value for name, value in os.environ.items() if name.startswith("BANEL_")}
    # A node that lacks the kernel then refuses to run, where it would otherwise compute with other last bits.
    own[kernel.VARIABLE] = kernel.kind()
    of_this_machine = {"num_cpus": jobs, "include_dashboard": False} if address == "local" else {}
    try:
        if address not in ("local", "auto"):
            _knock(address)
        # Ray's workers import the lanes' code, which may lie in folders that only this process has on its path.
        ray.init(
            address,
            runtime_env={"env_vars": own | {"PYTHONPATH": os.pathsep.join(_own_modules())}},
            log_to_driver=False,
            logging_level=logging.ERROR,
            **of_this_machine,
        )
    except (RuntimeError, ValueError, OverflowError, OSError) as error:
        raise BadValue(f"no Ray cluster at {address!r} ({error}); start one with: ray start --head") from error
    return ray


def _knock(address: str) -> None:
    """Raise OSError, ValueError or OverflowError unless something listens at the address. Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host:
        raise ValueError("an address is HOST:PORT")
    socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def run_remote(lane: Lane, workers: Workers, mark: Path, home: Path) -> Iterator[Outcome]:
    """Run a lane on the node that Ray chose.

    Args:
        lane: see run_lane.
        workers: see run_lane.
        mark: a file in the folder of the runs; a node that does not see it does not share that folder.
        home: the working folder of the process that started the sweep.
    """
    if not mark.exists():
        lost = f"{workers.out} of this machine is not seen on {platform.node()}; name a folder that all nodes share"
        yield from (Outcome(spec, "failed", lost) for spec in lane)
        return
    if home.is_dir():
        os.chdir(home)
    yield from run_lane(lane, kept(workers))


_KEPT: dict[str, Workers] = {}  # of this Ray worker, which makes the lanes of one sweep, one after another


def kept(workers: Workers) -> Workers:
    """The same workers as for the lanes before, so that their parent of warm runs is started once; or these, if they differ."""
    key = repr(workers)
    if key not in _KEPT:
        for other in _KEPT.values():
            other.close()
        _KEPT.clear()
        _KEPT[key] = workers
    return _KEPT[key]


def _own_modules() -> list[str]:
    """The folders of sys.path that do not belong to the Python installation."""
    prefixes = {sys.prefix, sys.base_prefix}
    places = [Path(place).absolute() for place in sys.path]
    return [str(place) for place in places if not any(place.is_relative_to(prefix) for prefix in prefixes)]


def _outcomes(ray: Any, tasks: dict[Any, list[Spec]]) -> Iterator[Outcome]:
    """The outcomes that have come, at least one or the end of a task. If a task is lost, its remaining runs have failed."""
    # One call takes all that are ready: each call looks at all tasks.
    ready, _ = ray.wait(list(tasks), num_returns=len(tasks), timeout=0)
    if not ready:
        ready, _ = ray.wait(list(tasks), num_returns=1)
    for task in ready:
        try:
            outcome = ray.get(next(task))
        except StopIteration:
            del tasks[task]
        except ray.exceptions.RayError as error:
            why = shorten(str(error), 300)
            for spec in tasks.pop(task):
                yield Outcome(spec, "failed", f"its worker was lost ({why}); run again to go on where it was")
        else:
            # A lane's outcomes come in order. What is left in the list has failed if the task is lost.
            tasks[task].pop(0)
            yield outcome
