"""ray_engine: a sweep's lanes as tasks of one CPU on a Ray cluster (extra `cluster`).

The folder of the runs and the user's own modules lie on a disk that all nodes share; nothing is uploaded. A Ray worker
only watches: each run is a process of its own, as on one machine, and ends with the worker that started it. A lane
whose node or worker died is sent out again by Ray and goes on from its ledgers.
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
from pathlib import Path
from textwrap import shorten
from typing import Any

from banel_envs import kernel
from banel_envs.errors import BadValue, MissingExtra
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.sweeping.sweep import Lane, Outcome, Workers, run_lane

RETRIES = 3  # of a lane, after the loss of its node or worker
PATIENCE = 60.0  # seconds: how long a lost node may still hold a ledger before its lane is given up


def ray_engine(
    lanes: Sequence[Lane], workers: Workers, *, address: str | None = None, jobs: int = 1, retries: int = RETRIES
) -> Generator[Outcome, None, None]:
    """The engine of a Ray cluster: one task of one CPU a lane; closing it cancels them.

    Args:
        lanes: see sweep.lanes_of.
        workers: how a run is started; its folder is one that all nodes share.
        address: of a cluster, such as "10.0.0.1:6379" or "auto"; by default RAY_ADDRESS, or else a cluster of this
            machine alone, which ends with the sweep.
        jobs: CPUs of the cluster of this machine.
        retries: how often a lane is sent out again after the loss of its node or worker.

    Raises:
        MissingExtra: Ray is not installed.
        BadValue: no cluster at this address, or one that this Python or Ray cannot join.
    """
    workers = dataclasses.replace(workers, out=workers.out.absolute(), patience=PATIENCE)
    mark = workers.out / f".ray-{uuid.uuid4().hex}"
    ray = connect(address, jobs)
    tasks: dict[Any, list[Spec]] = {}
    try:
        workers.out.mkdir(parents=True, exist_ok=True)
        mark.touch()
        remote = ray.remote(num_cpus=1, max_retries=retries, num_returns="streaming")(run_remote)
        tasks |= {remote.remote(lane, workers, mark, Path.cwd()): list(lane) for lane in lanes}
        yield from _outcomes(ray, tasks)
    finally:
        for task in tasks:
            ray.cancel(task, force=True)
        ray.shutdown()
        mark.unlink(missing_ok=True)


def connect(address: str | None, jobs: int) -> Any:
    """Ray, connected to the cluster; its workers find the modules and BANEL_ settings that this process has."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtra(f"--engine ray needs {error.name}: pip install 'banel-envs[cluster]'") from error
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    own = {name: value for name, value in os.environ.items() if name.startswith("BANEL_")}
    own[kernel.VARIABLE] = kernel.kind()  # a node that lacks it says so, rather than compute to other bits
    of_this_machine = {"num_cpus": jobs, "include_dashboard": False} if address == "local" else {}
    try:
        if address not in ("local", "auto"):
            _knock(address)
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
    """OSError, ValueError or OverflowError unless someone listens there; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host:
        raise ValueError("an address is HOST:PORT")
    socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def run_remote(lane: Lane, workers: Workers, mark: Path, home: Path) -> Iterator[Outcome]:
    """run_lane, on the node that Ray chose; `mark` is in the shared folder, `home` the driver's working folder."""
    if not mark.exists():
        lost = f"{workers.out} of this machine is not seen on {platform.node()}; name a folder that all nodes share"
        yield from (Outcome(spec, "failed", lost) for spec in lane)
        return
    if home.is_dir():
        os.chdir(home)
    yield from run_lane(lane, workers)


def _own_modules() -> list[str]:
    """The places of sys.path that are not Python's own."""
    prefixes = {sys.prefix, sys.base_prefix}
    places = [Path(place).absolute() for place in sys.path]
    return [str(place) for place in places if not any(place.is_relative_to(prefix) for prefix in prefixes)]


def _outcomes(ray: Any, tasks: dict[Any, list[Spec]]) -> Iterator[Outcome]:
    """What the tasks yield, as it comes; the runs that a lost task still owes have failed."""
    while tasks:
        (task, *_), _ = ray.wait(list(tasks), num_returns=1)
        try:
            outcome = ray.get(next(task))
        except StopIteration:
            del tasks[task]
        except ray.exceptions.RayError as error:
            why = shorten(str(error), 300)
            for spec in tasks.pop(task):
                yield Outcome(spec, "failed", f"its worker was lost ({why}); run again to go on where it was")
        else:
            tasks[task].pop(0)
            yield outcome
