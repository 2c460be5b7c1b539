"""The `banel` command: list, run, bench, board, show, data, replay."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import threading
import tomllib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from banel_envs.errors import BadValue, BanelError
from banel_envs.oracle import Feedback
from banel_envs.version import __version__

if TYPE_CHECKING:
    from banel_leaderboard.sweep import Engine

EXIT_BAD_INPUT = 2
EXIT_RUN_FAILED = 1
MOST_SEEDS = 10_000  # in one range
EXTRAS = ("torch", "stable_baselines3", "tqdm", "pandas", "pydantic", "jinja2", "markupsafe", "matplotlib")


class Parser(argparse.ArgumentParser):
    """argparse, with errors in one line."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with 2."""
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 1 a run failed, 2 bad input, 75 waiting for the answers of an external oracle."""
    options = parser().parse_args(arguments)
    sys.path.insert(0, str(Path.cwd()))  # agents and tasks of the user's own are modules in the working folder
    try:
        return int(options.command(options))
    except BanelError as error:
        print(f"banel: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRAS:
            raise
        print(f"banel: it needs {error.name}: pip install 'banel-envs[agents,leaderboard]'", file=sys.stderr)
        return EXIT_BAD_INPUT
    except BrokenPipeError:  # the reader of a pipe has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_RUN_FAILED
    except KeyboardInterrupt:
        print("banel: stopped; run the same command again to go on where it was", file=sys.stderr)
        return 130


def parser() -> Parser:
    """Every command and option."""
    top = Parser(prog="banel", description="Learning from failure: run agents under a metered oracle, draw the board.")
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    listing = commands.add_parser("list", help="tasks, agents and suites")
    listing.set_defaults(command=_list)

    run = commands.add_parser("run", help="one agent on one task, one run a seed")
    run.add_argument("--task", required=True, help="an id, or module:function that returns a Task of your own")
    run.add_argument("--agent", required=True, help="a name, or module:Class of your own")
    run.add_argument("--seeds", default="0", help="such as 0-4 or 0,3,7 (default 0)")
    run.add_argument("--feedback", choices=["failures", "full", "both"], default="failures")
    run.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="override a setting of the agent")
    run.add_argument("--config", type=Path, help="a JSON or TOML file of settings")
    run.add_argument("--budget", type=int, help="NRE; other than the task's own keeps the run off the board")
    run.add_argument("--twin", action="store_true", help="the oracle-free twin: told 'failure' for everything")
    run.add_argument("--oracle", metavar="file:DIR", help="ask by files in DIR instead of the task's own reward")
    run.add_argument(
        "--wait", type=float, default=0.0, help="seconds to wait for answers in DIR, then exit 75 (default 0)"
    )
    run.add_argument(
        "--inherit", metavar="OLD", help="an old run of the task whose answers are taken over (off the board)"
    )
    run.add_argument("--device", default="cpu", help="cpu or cuda")
    _add_running(run)
    run.set_defaults(command=_run)

    bench = commands.add_parser("bench", help="a suite: tasks x agents x seeds")
    bench.add_argument("--suite", required=True, help="a name from `banel list`")
    _add_running(bench)
    part = bench.add_mutually_exclusive_group()
    part.add_argument("--plan", action="store_true", help="run nothing; print runs, core-hours and a SLURM command")
    part.add_argument("--shard", metavar="I/N", help="of the suite's lanes only every N-th from the I-th on, from 0")
    bench.add_argument("--engine", choices=["local", "ray"], default="local", help="ray: on a Ray cluster")
    bench.add_argument("--address", help="of the cluster (default RAY_ADDRESS, or one of --jobs CPUs on this machine)")
    bench.add_argument("--retries", type=int, help="of a lane whose Ray node or worker died (default 3)")
    bench.set_defaults(command=_bench)

    board = commands.add_parser("board", help="the leaderboard of a folder of runs")
    board.add_argument("folder", type=Path)
    board.add_argument("--out", type=Path, required=True, help="a .html page, a .md table or a .png figure")
    board.set_defaults(command=_board)

    show = commands.add_parser("show", help="samples of a run's final policy with their log-probabilities")
    show.add_argument("run", type=Path)
    show.add_argument("-n", type=int, default=10, help="how many (default 10)")
    show.set_defaults(command=_show)

    data = commands.add_parser("data", help="fetch raw data that is not shipped, and check it")
    data.add_argument("name", choices=["mnist"])
    data.add_argument("--out", type=Path, help="where to put it (default: the folder BANEL_DATA names)")
    data.set_defaults(command=_data)

    replay = commands.add_parser("replay", help="prove finished runs: run each again over its own ledger")
    replay.add_argument("folder", type=Path, help="a run, or a folder of runs")
    replay.set_defaults(command=_replay)
    return top


def _add_running(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, required=True, help="the folder that holds all runs")
    command.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at once (default: every core)")
    command.add_argument("--timeout", type=float, help="seconds after which a run is stopped and counted as failed")
    command.add_argument("--isolate", action="store_true", help="keep the reward out of the agents' processes")


def _list(options: argparse.Namespace) -> int:
    from banel_agents import AGENTS
    from banel_envs import TASKS
    from banel_envs.tasks.families import family_of
    from banel_leaderboard.measured import measured
    from banel_leaderboard.suites import SUITES

    print(f"{'task':<30}{'family':<12}{'V':>4}{'T':>5}{'budget':>8}{'minutes':>9}  log10 base success")
    for name in TASKS:
        problem, known = TASKS[name].problem, measured(TASKS[name])
        minutes = f"{known['minutes']:.1f}" if known else ""
        sizes = f"{problem.V:>4}{problem.T:>5}{problem.budget:>8,}{minutes:>9}"
        print(f"{name:<30}{family_of(name):<12}{sizes}  {_base(known)}")
    print("\nminutes: of one BaNEL run on one core, its 16 evaluations included")
    print("agents: " + ", ".join(AGENTS))
    print("suites:")
    for name, suite in SUITES.items():
        print(f"  {name:<10}{suite.about}")
    return 0


def _base(known: dict[str, Any] | None) -> str:
    """A measured base success rate in words."""
    if known is None:
        return "not measured"
    base = known["base"]
    if base["method"] == "exact":
        return "zero" if base["log10"] is None else f"{base['log10']:.4f} (exact)"
    if base["log10"] is None:
        limits = f"below {base['high']:.2f}" if base["low"] is None else f"[{base['low']:.2f}, {base['high']:.2f}]"
        return f"{limits} ({base['samples']:,} samples)"
    return f"{base['log10']:.2f} [{base['low']:.2f}, {base['high']:.2f}] ({base['method'].replace('_', ' ')})"


def _run(options: argparse.Namespace) -> int:
    from banel_leaderboard.spec import Spec

    feedbacks = ("full", "failures") if options.feedback == "both" else (options.feedback,)
    settings = read_settings(options.config, options.set)
    lanes = [
        tuple(
            Spec(
                options.task,
                options.agent,
                seed,
                cast(Feedback, feedback),
                options.twin,
                options.budget,
                settings,
                options.device,
                options.oracle,
                options.inherit,
                options.wait,
            )
            for feedback in (("failures",) if options.twin else feedbacks)
        )
        for seed in parse_seeds(options.seeds)
    ]
    return _sweep(lanes, options)


def _bench(options: argparse.Namespace) -> int:
    from banel_leaderboard.plan import describe_plan, make_plan, shard_of
    from banel_leaderboard.suites import get_suite
    from banel_leaderboard.sweep import lanes_of

    lanes = lanes_of(get_suite(options.suite))
    if options.plan:
        _check_running(options)
        command = ["banel", "bench", "--suite", options.suite, "--out", str(options.out)]
        command += ["--isolate"] * options.isolate
        command += ["--timeout", f"{options.timeout:g}"] if options.timeout is not None else []
        print(describe_plan(make_plan(lanes, options.out), options.jobs, command))
        return 0
    if options.shard is not None:
        lanes = shard_of(lanes, options.shard)
    return _sweep(lanes, options, _engine(options))


def _engine(options: argparse.Namespace) -> Engine | None:
    """Where the lanes of a suite run; None for this machine."""
    if options.engine == "local":
        for name in ("address", "retries"):
            if getattr(options, name) is not None:
                raise BadValue(f"--{name} is {getattr(options, name)!r}; it goes with --engine ray")
        return None
    from banel_leaderboard.ray_engine import RETRIES, ray_engine

    retries = RETRIES if options.retries is None else options.retries
    if retries < 0:
        raise BadValue(f"--retries is {retries}; it must be at least 0")
    return partial(ray_engine, address=options.address, jobs=options.jobs, retries=retries)


def _check_running(options: argparse.Namespace) -> None:
    if options.jobs < 1:
        raise BadValue(f"--jobs is {options.jobs}; it must be at least 1")
    if options.timeout is not None and not 0 < options.timeout < threading.TIMEOUT_MAX:
        raise BadValue(f"--timeout is {options.timeout}; it must be a number of seconds above 0")


def _sweep(lanes: list[tuple[Any, ...]], options: argparse.Namespace, engine: Engine | None = None) -> int:
    from banel_leaderboard.sweep import check, records_of, sweep

    _check_running(options)
    check(lanes, options.out)
    how = {"jobs": options.jobs, "timeout": options.timeout, "isolate": options.isolate}
    outcomes = sweep(lanes, options.out, **how, engine=engine)
    for record in sorted(records_of(lanes, options.out), key=lambda r: (r.task, r.feedback, r.agent, r.seed)):
        regime = "twin" if record.twin else record.feedback
        first = record.first_success or f"> {record.ledger.count}"
        print(
            f"{record.task:<30} {record.agent:<20} {regime:<9} seed {record.seed}: log10 success "
            f"{_number(record.points[0].success.log10)} -> {_number(record.final())} "
            f"(best {_number(record.best())}), first success at NRE {first}, {record.execution.wall_s:.1f} s"
        )
    counts = {
        status: sum(o.status == status for o in outcomes) for status in ("done", "kept", "served", "waiting", "failed")
    }
    print(", ".join(f"{count} {status}" for status, count in counts.items() if count) + f" in {options.out}")
    if counts["failed"]:
        return EXIT_RUN_FAILED
    return os.EX_TEMPFAIL if counts["waiting"] else 0


def _number(log10: float | None) -> str:
    return "zero" if log10 is None or log10 == -math.inf else f"{log10:.3f}"


def _board(options: argparse.Namespace) -> int:
    from banel_leaderboard import board

    writers = {".html": "write_page", ".md": "write_markdown", ".png": "write_figure"}
    if options.out.suffix not in writers:
        raise BadValue(f"--out is {options.out}; name a file that ends in {', '.join(writers)}")
    if not options.folder.is_dir():
        raise BadValue(f"{options.folder} is not a folder of runs; `banel bench --out {options.folder}` makes one")
    getattr(board, writers[options.out.suffix])(options.folder, options.out)
    print(f"wrote {options.out}")
    return 0


def _show(options: argparse.Namespace) -> int:
    import numpy as np

    from banel_leaderboard.folder import RECORD, load_policy, spec_of
    from banel_leaderboard.record import RunRecord
    from banel_leaderboard.spec import load_task

    if options.n < 1:
        raise BadValue(f"-n is {options.n}; it must be at least 1")
    record = RunRecord.load(options.run / RECORD)
    problem = load_task(spec_of(options.run, record).task).problem
    policy = load_policy(options.run)
    tokens = policy.sample(options.n, np.random.default_rng(0))
    for row, log_prob in zip(tokens, policy.log_prob(tokens), strict=True):
        print(f"{log_prob:10.4f}  {problem.render(row)}")
    return 0


def _data(options: argparse.Namespace) -> int:
    from banel_leaderboard.fetch import fetch_mnist

    folder = options.out or (Path(os.environ["BANEL_DATA"]) if os.environ.get("BANEL_DATA") else None)
    if folder is None:
        raise BadValue("no folder to put the data in: give --out DIR, and set BANEL_DATA to it")
    path = fetch_mnist(folder)
    print(f"{path} is MNIST; tasks find it with BANEL_DATA={folder.resolve()}")
    return 0


def _replay(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from banel_leaderboard.replay import finished_runs, prove

    folders = finished_runs(options.folder)
    failures: list[str] = []
    with tqdm(folders, unit="run", disable=None, mininterval=0.5) as bar:
        for folder in bar:
            try:
                prove(folder)
            except Exception as error:  # whatever an agent raises: the other runs are still to be proved
                failures.append(f"{folder}: {type(error).__name__}: {' '.join(str(error).split())}")
                bar.set_postfix(failed=len(failures))
            else:
                bar.write(f"proved {folder}")
    for failure in failures:
        print(f"not proved {failure}", file=sys.stderr)
    print(f"{len(folders) - len(failures)} of {len(folders)} proved: same questions, same ledger head, same record")
    return EXIT_RUN_FAILED if failures else 0


def parse_seeds(text: str) -> list[int]:
    """Seeds from "0-4", "3" or "0,2,5-7"; BadValue otherwise."""
    seeds: list[int] = []
    try:
        for part in text.split(","):
            low, dash, high = part.partition("-")
            several = range(int(low), int(high if dash else low) + 1)
            if not 0 < len(several) <= MOST_SEEDS:
                raise ValueError(part)
            seeds += several
    except ValueError as error:
        raise BadValue(f"seeds are {text!r}; write them like 0-4 or 0,3,7, at most {MOST_SEEDS:,} a range") from error
    if min(seeds) < 0 or len(set(seeds)) != len(seeds):
        raise BadValue(f"seeds are {text!r}; write different whole numbers from 0 on, like 0-4 or 0,3,7")
    return seeds


def read_settings(file: Path | None, pairs: Sequence[str]) -> dict[str, Any]:
    """Settings from a JSON or TOML file, then from NAME=VALUE pairs."""
    settings: dict[str, Any] = {}
    if file is not None:
        try:
            content = file.read_text()
            settings = tomllib.loads(content) if file.suffix == ".toml" else json.loads(content)
        except (OSError, ValueError) as error:
            raise BadValue(f"--config {file}: {error}; give a JSON or TOML file of settings") from error
        if not isinstance(settings, dict):
            raise BadValue(f"--config {file}: it holds a {type(settings).__name__}; give a table of settings")
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadValue(f"--set {pair!r}; write NAME=VALUE, such as f=16")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings
