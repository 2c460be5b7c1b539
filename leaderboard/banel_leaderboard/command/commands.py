"""The commands of `banel`. Each of them takes the options, prints what it has to say, and returns an exit status.

Modules that need PyTorch, pandas or the agents are imported in the command that needs them, so that the others start fast.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from banel_envs.errors import BadValue
from banel_envs.files.visible import terminal
from banel_envs.meter.oracle import Feedback
from banel_leaderboard.command.settings import parse_seeds, read_settings
from banel_leaderboard.running import isolation_wall

if TYPE_CHECKING:
    from banel_leaderboard.sweeping.sweep import Engine

EXIT_RUN_FAILED = 1
EXIT_NOT_PROVED = 3
MOST_SHOWN = 100_000  # samples that `show` draws at most, because all of them are in memory at once


def listing(options: argparse.Namespace) -> int:
    """List what can be run: tasks, agents and suites."""
    from banel_agents import AGENTS
    from banel_envs import TASKS
    from banel_leaderboard.sweeping.measured_costs import measured
    from banel_leaderboard.sweeping.suites import SUITES

    print(
        f"{'task':<30}{'family':<12}{'V':>4}{'T':>5}{'budget':>8}{'minutes':>9}  log10 base success; best without an oracle"
    )
    for name in TASKS:
        if (task := TASKS.at_hand(name)) is None:
            print(f"{name:<30}of a model and data that you bring: docs/language_models.md")
            continue
        problem, known = task.problem, measured(task)
        minutes = f"{known['minutes']:.1f}" if known and known["minutes"] is not None else ""
        sizes = f"{problem.V:>4}{problem.T:>5}{problem.budget:>8,}{minutes:>9}"
        print(f"{name:<30}{task.family:<12}{sizes}  {_base(known)}{_control(known)}")
    print("\nminutes: of one BaNEL run on one core, its 16 evaluations included")
    print("\nagents:")
    for name, shipped in AGENTS.items():
        print(f"  {name:<21}{shipped.about}")
    print("\nsuites:")
    for name, suite in SUITES.items():
        print(f"  {name:<21}{suite.about} ({suite.size})")
    return 0


def _base(known: dict[str, Any] | None) -> str:
    """A measured base success rate in words; only its ends where the rate itself is not known."""
    if known is None:
        return "not measured"
    base = known["base"]
    if base["method"] == "exact":
        return "zero" if base["log10"] is None else f"{base['log10']:.4f} (exact)"
    if base["log10"] is None:
        limits = f"below {base['high']:.2f}" if base["low"] is None else f"[{base['low']:.2f}, {base['high']:.2f}]"
        return f"{limits} ({base['samples']:,} samples)"
    return f"{base['log10']:.2f} [{base['low']:.2f}, {base['high']:.2f}] ({base['method'].replace('_', ' ')})"


def _control(known: dict[str, Any] | None) -> str:
    """The best exact rate of a policy that reads no answer (`benchmarks.tasks.controls`), in words."""
    found = None if known is None else known.get("control")
    return "" if found is None else f"; {found['log10']:.2f} {found['whose']}"


def run(options: argparse.Namespace) -> int:
    """Run one agent on one task, one run for each seed."""
    from banel_leaderboard.records.spec import Spec
    from banel_leaderboard.running.lookup import allow_own_modules

    allow_own_modules([options.task, options.agent])
    # "full" comes first: a run that met no success there serves the run with the feedback "failures", which is the same.
    feedbacks = ("full", "failures") if options.feedback == "both" else (options.feedback,)
    settings = read_settings(options.config, options.set)
    lanes = [
        tuple(
            Spec(
                task=options.task,
                agent=options.agent,
                seed=seed,
                feedback=cast(Feedback, feedback),
                twin=options.twin,
                budget=options.budget,
                settings=settings,
                device=options.device,
                oracle=options.oracle,
                inherit=options.inherit,
                wait=options.wait,
            )
            for feedback in (("failures",) if options.twin else feedbacks)
        )
        for seed in parse_seeds(options.seeds)
    ]
    return _sweep(lanes, options)


def bench(options: argparse.Namespace) -> int:
    """Run a suite, or print its plan."""
    from banel_leaderboard.running.lookup import allow_own_modules
    from banel_leaderboard.sweeping.plan import describe_plan, make_plan, shard_of
    from banel_leaderboard.sweeping.suites import get_suite
    from banel_leaderboard.sweeping.sweep import lanes_of

    suite, settings = get_suite(options.suite), read_settings(options.config, options.set)
    if options.agent is None and settings:
        raise BadValue(f"--set gives {next(iter(settings))}; name the agent whose setting it is with --agent")
    if options.agent is not None:
        allow_own_modules([options.agent])
    lanes = lanes_of(suite, options.agent, settings)
    if options.plan:
        _check_running(options)
        command = ["banel", "bench", "--suite", options.suite, "--out", str(options.out)]
        command += ["--agent", options.agent] if options.agent is not None else []
        command += ["--config", str(options.config)] if options.config is not None else []
        command += [word for pair in options.set for word in ("--set", pair)]
        command += ["--isolate"] * options.isolate
        command += ["--timeout", f"{options.timeout:g}"] if options.timeout is not None else []
        print(describe_plan(make_plan(lanes, options.out), options.jobs, command))
        return 0
    if options.shard is not None:
        lanes = shard_of(lanes, options.shard)
    return _sweep(lanes, options, _engine(options))


def _engine(options: argparse.Namespace) -> Engine | None:
    """The engine that runs the lanes of a suite; None for processes on this machine."""
    if options.engine == "local":
        for name in ("address", "retries"):
            if getattr(options, name) is not None:
                raise BadValue(f"--{name} is {getattr(options, name)!r}; it goes with --engine ray")
        return None
    from banel_leaderboard.sweeping.ray_engine import RETRIES, ray_engine

    retries = RETRIES if options.retries is None else options.retries
    if retries < 0:
        raise BadValue(f"--retries is {retries}; it must be at least 0")
    return partial(ray_engine, address=options.address, jobs=options.jobs, retries=retries)


def _check_running(options: argparse.Namespace) -> None:
    """Check the options that every command that makes runs has; BadValue for the first bad one."""
    if options.jobs < 1:
        raise BadValue(f"--jobs is {options.jobs}; it must be at least 1")
    # Python's waiting functions raise OverflowError for a longer time.
    if options.timeout is not None and not 0 < options.timeout < threading.TIMEOUT_MAX:
        raise BadValue(f"--timeout is {options.timeout}; it must be a number of seconds above 0")


def _sweep(lanes: list[tuple[Any, ...]], options: argparse.Namespace, engine: Engine | None = None) -> int:
    """Make the runs, print one line for each and then how many there are of each outcome; the exit status."""
    from banel_leaderboard.running.sinks import inherited
    from banel_leaderboard.sweeping.sweep import check, records_of, sweep
    from banel_leaderboard.sweeping.worker import WAITING

    _check_running(options)
    check(lanes, options.out)
    if options.isolate and not isolation_wall.version():
        print(f"--isolate: {isolation_wall.MISSING}", file=sys.stderr)
    how = {"jobs": options.jobs, "timeout": options.timeout, "isolate": options.isolate}
    with inherited(options.log or ()):  # the processes that run the lanes read it in their environment
        outcomes = sweep(lanes, options.out, **how, engine=engine)
    for record in sorted(records_of(lanes, options.out), key=lambda r: (r.task, r.feedback, r.agent, r.seed)):
        regime = "twin" if record.twin else record.feedback
        first = f"first success at NRE {record.first_success or f'> {record.ledger.count}'}"
        errors = f", {record.errors:,} failures are errors of the reward" if record.errors else ""
        print(
            f"{record.task:<30} {record.agent:<20} {regime:<9} seed {record.seed}: log10 success "
            f"{_ends(record.points[0].success.at)} -> {_ends(partial(record.final, 'success'))} "
            f"(best {_ends(partial(record.best, 'success'))}), {'told nothing' if record.twin else first}, "
            f"{record.execution.wall_s:.1f} s{errors}"
        )
    counts = {
        status: sum(o.status == status for o in outcomes) for status in ("done", "kept", "served", "waiting", "failed")
    }
    print(", ".join(f"{count} {status}" for status, count in counts.items() if count) + f" in {options.out}")
    # A failure comes before waiting: it needs a person, and the answers that are awaited come anyway.
    if counts["failed"]:
        return EXIT_RUN_FAILED
    return WAITING if counts["waiting"] else 0


def _ends(rate: Callable[..., float]) -> str:
    """A log10 rate, or both ends of its interval if only an interval is known."""
    low, high = ("zero" if value == -math.inf else f"{value:.3f}" for value in (rate("low"), rate("high")))
    return low if low == high else f"[{low}, {high}]"


def board(options: argparse.Namespace) -> int:
    """Write the page, the table or the figure of a folder of runs."""
    from banel_leaderboard.board import write
    from banel_leaderboard.proving.load import load_runs
    from banel_leaderboard.proving.standing import read_attestations
    from banel_leaderboard.records.find_runs import is_folder
    from banel_leaderboard.running.lookup import own_code

    writers = {".html": "write_page", ".md": "write_markdown", ".png": "write_figure"}
    if options.out.suffix not in writers:
        raise BadValue(f"--out is {options.out}; name a file that ends in {', '.join(writers)}")
    if not is_folder(options.folder):
        raise BadValue(f"{options.folder} is not a folder of runs; `banel bench --out {options.folder}` makes one")
    known = own_code(options.task, options.agent)
    attestations = [] if options.attestations is None else read_attestations(options.attestations, options.folder)
    loaded = load_runs(options.folder, known, attestations)
    getattr(write, writers[options.out.suffix])(loaded, options.out)
    refused = f", {len(loaded.refused):,} refused" if loaded.refused else ""
    print(f"wrote {options.out}; runs: {len(loaded.runs):,} shown{refused}")
    return EXIT_RUN_FAILED if loaded.refused and not loaded.runs else 0


def show(options: argparse.Namespace) -> int:
    """Print samples of a run's final policy with their log-probabilities."""
    import numpy as np

    from banel_leaderboard.records.find_runs import opened_run
    from banel_leaderboard.records.record import RunRecord
    from banel_leaderboard.records.run_folder import FINAL, RECORD, load_policy, why_no_policy
    from banel_leaderboard.running.lookup import own_code

    if not 1 <= options.n <= MOST_SHOWN:
        raise BadValue(f"-n is {options.n}; it must be at least 1 and at most {MOST_SHOWN:,}")
    with opened_run(options.run) as run:
        if not (run / RECORD).is_file():
            raise BadValue(f"{options.run} is not the folder of a finished run: {why_no_policy(run)}")
        record = RunRecord.load(run / RECORD)
        if not os.path.lexists(run / FINAL):
            raise BadValue(f"{options.run} holds no {FINAL}: {why_no_policy(run)}")
        problem = own_code(options.task).task(record.task).problem
        policy = load_policy(run, problem)
    tokens = policy.sample(options.n, np.random.default_rng(0))
    for row, log_prob in zip(tokens, policy.log_prob(tokens), strict=True):
        print(f"{log_prob:10.4f}  {problem.render(row)}")
    return 0


def data(options: argparse.Namespace) -> int:
    """Fetch raw data that is not shipped."""
    from banel_leaderboard.command.fetch_gsm8k import fetch_gsm8k
    from banel_leaderboard.command.fetch_mnist import fetch_mnist

    folder = options.out or (Path(os.environ["BANEL_DATA"]) if os.environ.get("BANEL_DATA") else None)
    if folder is None:
        raise BadValue("no folder to put the data in: give --out DIR, and set BANEL_DATA to it")
    what, fetch = {"mnist": ("is MNIST", fetch_mnist), "gsm8k": ("holds GSM8K", fetch_gsm8k)}[options.name]
    print(f"{fetch(folder)} {what}; tasks find it with BANEL_DATA={folder.resolve()}")
    return 0


def replay(options: argparse.Namespace) -> int:
    """Prove finished runs. A run that is not proved is listed on stderr, and the others are proved all the same."""
    from banel_leaderboard.proving.parallel import Proving, draw, prove_all
    from banel_leaderboard.proving.standing import prepare_attestations, write_attestations
    from banel_leaderboard.records.find_runs import finished_runs

    if options.jobs < 1:
        raise BadValue(f"--jobs is {options.jobs}; it must be at least 1")
    if options.attest is not None:
        prepare_attestations(options.attest, options.folder)
    proving = Proving(tuple(options.task), tuple(options.agent))
    with finished_runs(options.folder) as found:
        folders = [place.folder for place in found.runs]
        whole = len(folders)
        if options.sample is not None:
            folders = draw(folders, options.sample, options.sample_seed)
        verdicts = prove_all(folders, proving, options.jobs, found.told)
        if options.attest is not None:
            write_attestations(options.attest, [v.attestation for v in verdicts if v.attestation is not None])
        for verdict in verdicts:
            if verdict.status != "proved":
                said = found.told(f"{verdict.status} {verdict.folder}: {verdict.reason}")
                print(terminal(said), file=sys.stderr)
    counts = {
        status: sum(v.status == status for v in verdicts) for status in ("proved", "disproved", "not proved here")
    }
    drawn = f" ({len(folders)} of {whole} drawn by seed {options.sample_seed})" if options.sample is not None else ""
    rest = ", ".join(f"{n} {status}" for status, n in counts.items() if n and status != "proved")
    print(
        f"{counts['proved']} of {len(folders)} proved: same answers, same questions, same ledger head, same record"
        f"{drawn}{'; ' if rest else ''}{rest}"
    )
    if counts["disproved"]:
        return EXIT_RUN_FAILED
    return EXIT_NOT_PROVED if counts["not proved here"] else 0


def pack(options: argparse.Namespace) -> int:
    """Pack the finished runs of a folder into a submission."""
    from banel_leaderboard.records.pack import pack as packed

    done = packed(options.folder, options.out, not options.without_policies)
    left = f"; {done.unfinished} unfinished runs were left out" if done.unfinished else ""
    print(
        f"packed {done.runs:,} runs into {options.out}: {done.files} files of {done.bytes:,} bytes, "
        f"from {done.unpacked:,} bytes of records, ledgers, run.json and policies{left}"
    )
    return 0


def unpack(options: argparse.Namespace) -> int:
    """Unpack a packed submission into run folders."""
    from banel_leaderboard.records.unpack import unpack as unpacked

    print(f"unpacked {unpacked(options.folder, options.out):,} runs into {options.out}")
    return 0
