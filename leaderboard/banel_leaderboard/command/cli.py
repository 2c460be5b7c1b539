"""The options of the `banel` command; see `banel --help` for its subcommands.

What the commands do stands in commands.py, submitting.py and publish.py. This module imports neither PyTorch nor the
agents, so that `banel --help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from banel_envs import kernel
from banel_envs.errors import BanelError
from banel_envs.files.visible import terminal
from banel_envs.version import __version__
from banel_leaderboard.command import commands, hard_questions, publish, submitting

EXIT_BAD_INPUT = 2
EXAMPLES = {
    "list": ("banel list",),
    "run": (
        "banel run --task banel/AdditionAttack-v0 --agent banel --seeds 0-4 --feedback both --out out",
        "banel run --task banel/AdditionAttack-v0 --agent my_agent:MyAgent --set lr=0.001 --out out-lr",
    ),
    "bench": (
        "banel bench --suite smoke --out out",
        "banel bench --suite quick --agent my_agent:MyAgent --out out",
        "banel bench --suite v1 --out out --plan",
    ),
    "board": ("banel board out --out page.html",),
    "site": ("banel site --out site",),
    "plot": ("banel plot out --out figures",),
    "show": ("banel show out/banel/AdditionAttack-v0/banel/failures/seed-0 -n 20",),
    "data": ("banel data mnist --out data", "banel data gsm8k --out data"),
    "hard-questions": (
        "banel hard-questions --model Qwen/Qwen2.5-0.5B-Instruct --n 100 --samples 64",
        "banel hard-questions --model model.gguf --n 20 --out counts.json",
    ),
    "replay": ("banel replay out",),
    "pack": ("banel pack out --out leaderboard/submissions/mine",),
    "submit": ('banel submit out --name "My method" --author Me --licence MIT',),
    "rerun": ("banel rerun leaderboard/submissions/mine --agent my_pkg:MyAgent --agent-from ../my_pkg --out again",),
    "check": ("banel check leaderboard/submissions/addition",),
    "unpack": ("banel unpack leaderboard/submissions/mine --out runs",),
}
# Packages that an extra brings. If one of them is missing, the person is told which extra to install.
EXTRAS = (
    "torch",
    "onnx",
    "onnxruntime",
    "stable_baselines3",
    "tqdm",
    "pandas",
    "pydantic",
    "jinja2",
    "markupsafe",
    "matplotlib",
)


_Help = argparse.RawDescriptionHelpFormatter  # it does not join the lines of the examples


class Parser(argparse.ArgumentParser):
    """An argparse parser that reports an error in one line."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with 2."""
        print(f"{self.prog}: {terminal(message)} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit status. 0: done. 1: a run failed or was disproved. 2: the input is bad. 3: a run could not be proved here.
        75: the answers of an external oracle are awaited.
    """
    options = parser().parse_args(arguments)
    # The processes that are started from here must not import a module of the working folder instead of an installed one.
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        # An unknown kernel in the environment is bad input. Without this line every run of a sweep would fail of it.
        kernel.kind()
        return int(options.command(options))
    except BanelError as error:
        print(f"banel: {terminal(error)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRAS:
            raise
        print(f"banel: it needs {error.name}: pip install 'banel-envs[agents,leaderboard]'", file=sys.stderr)
        return EXIT_BAD_INPUT
    except BrokenPipeError:  # the program that reads from us, such as `head`, has ended
        # Python flushes stdout when it ends, which would raise the same error once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return commands.EXIT_RUN_FAILED
    except KeyboardInterrupt:
        print("banel: stopped; run the same command again to go on where it was", file=sys.stderr)
        return 130


def parser() -> Parser:
    """The parser with every command and every option."""
    top = Parser(prog="banel", description="Learning from failure: run agents under a metered oracle, draw the board.")
    top.add_argument("--version", action="version", version=__version__)
    top.epilog, top.formatter_class = _examples(EXAMPLES["bench"][:1] + EXAMPLES["board"]), _Help
    subparsers = top.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    _command(subparsers, "list", "tasks, agents and suites").set_defaults(command=commands.listing)

    run = _command(subparsers, "run", "one agent on one task, one run a seed")
    run.add_argument("--task", required=True, help="an id, or module:function that returns a Task of your own")
    run.add_argument("--agent", required=True, help="a name, or module:Class of your own")
    run.add_argument("--seeds", default="0", help="such as 0-4 or 0,3,7 (default 0)")
    run.add_argument(
        "--feedback", choices=["failures", "full", "typed", "both"], default="failures", help="(default failures)"
    )
    _add_settings(run)
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
    run.set_defaults(command=commands.run)

    bench = _command(subparsers, "bench", "a suite: tasks x agents x seeds")
    bench.add_argument("--suite", required=True, help="a name from `banel list`")
    bench.add_argument("--agent", help="a name, or module:Class of your own, that runs instead of the suite's agents")
    _add_settings(bench)
    _add_running(bench)
    part = bench.add_mutually_exclusive_group()
    part.add_argument("--plan", action="store_true", help="run nothing; print runs, core-hours and a SLURM command")
    part.add_argument("--shard", metavar="I/N", help="of the suite's lanes only every N-th from the I-th on, from 0")
    bench.add_argument("--engine", choices=["local", "ray"], default="local", help="ray: on a Ray cluster")
    bench.add_argument("--address", help="of the cluster (default RAY_ADDRESS, or one of --jobs CPUs on this machine)")
    bench.add_argument("--retries", type=int, help="of a lane whose Ray node or worker died (default 3)")
    bench.set_defaults(command=commands.bench)

    _add_publishing(subparsers)
    show = _command(subparsers, "show", "samples of a run's final policy with their log-probabilities")
    show.add_argument("run", type=Path)
    show.add_argument("-n", type=int, default=10, help="how many (default 10)")
    _add_own_code(show, agents=False)
    show.set_defaults(command=commands.show)

    data = _command(subparsers, "data", "fetch raw data that is not shipped, and check it")
    data.add_argument("name", choices=["mnist", "gsm8k"])
    data.add_argument("--out", type=Path, help="where to put it (default: the folder BANEL_DATA names)")
    data.set_defaults(command=commands.data)

    _add_hard_questions(subparsers)
    _add_replay(subparsers)
    _add_packing(subparsers)
    _add_submitting(subparsers)
    return top


def _add_hard_questions(subparsers: Any) -> None:
    """Add the command that finds a language model's hard questions."""
    hard = _command(
        subparsers, "hard-questions", "how often a language model solves each of the first questions of GSM8K"
    )
    hard.add_argument("--model", help="a folder, a .gguf file or a hub id (default: what BANEL_MODEL names)")
    hard.add_argument("--n", type=int, required=True, help="questions, from the first on")
    hard.add_argument("--samples", type=int, default=16, help="answers to each (default 16)")
    hard.add_argument("--part", choices=["train", "test"], default="test", help="of GSM8K (default test)")
    hard.add_argument("--rule", choices=["reference", "lenient"], default="reference", help="that the table is by")
    hard.add_argument("--horizon", type=int, default=256, help="tokens of the longest answer (default 256)")
    hard.add_argument("--plain", action="store_true", help="a plain prompt, for a model without a chat template")
    hard.add_argument("--seed", type=int, default=0, help="of the answers (default 0)")
    about = "the counts; it is gone on from (default hard-questions.json)"
    hard.add_argument("--out", type=Path, default=Path("hard-questions.json"), metavar="FILE", help=about)
    hard.set_defaults(command=hard_questions.hard_questions)


def _add_replay(subparsers: Any) -> None:
    """Add the command that proves runs."""
    replay = _command(subparsers, "replay", "prove finished runs: run each again over its own ledger")
    replay.add_argument("folder", type=Path, help="a run, or a folder of runs")
    about = "prove K runs, drawn by --sample-seed, one of every agent and regime first (default: all)"
    replay.add_argument("--sample", type=int, metavar="K", help=about)
    replay.add_argument("--sample-seed", type=int, default=0, metavar="S", help="of the draw (default 0)")
    replay.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at once (default: every core)")
    replay.add_argument("--attest", type=Path, metavar="FILE", help="note in FILE, outside the folder, what was proved")
    _add_own_code(replay)
    replay.set_defaults(command=commands.replay)


def _add_submitting(subparsers: Any) -> None:
    """Add the commands about submissions."""
    submit = _command(subparsers, "submit", "pack, check and describe finished runs, and write them as a submission")
    submit.add_argument("folder", type=Path, help="the folder that was handed to --out of `banel bench`")
    submit.add_argument("--name", required=True, help="of the method, as the board shows it")
    submit.add_argument("--author", action="append", default=[], help="once for each (default: git's user.name)")
    submit.add_argument("--link", default="", metavar="URL", help="https, to a paper or to the code")
    submit.add_argument("--licence", default="", help="of the agent's code, such as Apache-2.0")
    submit.add_argument("--commit", default="", help="of the agent's code, in hex")
    submit.add_argument("--tuning-configurations", type=int, default=0, metavar="N", help="settings that were tried")
    submit.add_argument("--tuning-nre", type=int, default=0, metavar="N", help="evaluations that were spent on trying")
    submit.add_argument("--attempts", type=int, default=1, help="times that the whole suite was run (default 1)")
    submit.add_argument("--note", default="", help="what else a reader should know, in one paragraph")
    submit.add_argument("--suite", help="the suite that was run (default: the one that the runs are complete for)")
    submit.add_argument("--date", help="YYYY-MM-DD (default: today)")
    submit.add_argument("--submissions", type=Path, metavar="DIR", help="default: leaderboard/submissions")
    submit.add_argument(
        "--without-policies", action="store_true", help="final rates stay reported until runs are replayed"
    )
    submit.add_argument("--open", action="store_true", help="show the site with the submission in it in a browser")
    submit.set_defaults(command=submitting.submit)

    check = _command(
        subparsers, "check", "whether a submission would be taken in: offline, and nothing of it is executed"
    )
    check.add_argument("folder", type=Path, help="the submission, a folder with a submission.json")
    check.add_argument("--against", type=Path, metavar="DIR", help="the other submissions (default: those beside it)")
    check.add_argument("--attestations", type=Path, help="what was replayed, outside the submission")
    check.add_argument("--report", type=Path, metavar="FILE", help="write the report as JSON too")
    check.set_defaults(command=submitting.check)

    rerun = _command(subparsers, "rerun", "run a submission's agent again on fresh seeds, isolated, and compare")
    rerun.add_argument("folder", type=Path, help="the submission")
    rerun.add_argument("--agent", required=True, help="module:Class of its agent, or the name of a shipped one")
    rerun.add_argument("--agent-from", type=Path, metavar="PATH", help="the folder that the module is in")
    rerun.add_argument("--as", dest="called", metavar="NAME", help="the agent's name in a submission of several agents")
    rerun.add_argument("--task", action="append", default=[], help="only this task; may be given several times")
    rerun.add_argument("--runs", type=int, help="fresh seeds a task (default: as many as were submitted)")
    rerun.add_argument("--out", type=Path, required=True, help="the fresh runs; a rerun that was stopped goes on there")
    rerun.add_argument("--attestations", type=Path, metavar="DIR", help="write the verdict into this folder too")
    rerun.add_argument(
        "--instance", action="store_true", help="on other assets of the tasks, drawn now, beside controls"
    )
    rerun.set_defaults(command=submitting.rerun)


def _add_publishing(subparsers: Any) -> None:
    """Add the commands that show runs: the board, the site of all submissions and the figures of a paper."""
    board = _command(subparsers, "board", "the leaderboard of a folder of runs")
    board.add_argument("folder", type=Path)
    board.add_argument("--out", type=Path, required=True, help="a .html page, a .md table or a .png figure")
    board.add_argument(
        "--attestations", type=Path, help="what was replayed: a file of `banel replay --attest`, or a folder of them"
    )
    _add_own_code(board)
    board.set_defaults(command=commands.board)

    site = _command(subparsers, "site", "all submissions as one static folder of pages")
    site.add_argument(
        "--submissions",
        type=Path,
        default=publish.SUBMISSIONS,
        help=f"its folders are the submissions (default {publish.SUBMISSIONS})",
    )
    site.add_argument("--out", type=Path, required=True, help="a folder for index.html and the pages of submissions")
    site.add_argument(
        "--attestations",
        type=Path,
        help="what was replayed, as for `banel board` (default: that beside the submissions)",
    )
    site.add_argument("--open", action="store_true", help="open it in a browser")
    _add_own_code(site)
    site.set_defaults(command=publish.site)

    plot = _command(subparsers, "plot", "the site's figures of folders of runs, for a paper")
    plot.add_argument("folders", type=Path, nargs="+", metavar="RUNS", help="folders of runs, packed or not")
    plot.add_argument("--out", type=Path, required=True, help="a folder for the figures")
    plot.add_argument("--format", choices=publish.FORMATS, default="pdf", help="of the files (default pdf)")
    _add_own_code(plot)
    plot.set_defaults(command=publish.plot)


def _add_packing(subparsers: Any) -> None:
    """Add the commands that pack and unpack a submission."""
    pack = _command(subparsers, "pack", "finished runs into a few files, the form in which a submission is handed in")
    pack.add_argument("folder", type=Path, help="the folder that was handed to --out of `banel bench`")
    pack.add_argument("--out", type=Path, required=True, help="a new folder")
    pack.add_argument("--without-policies", action="store_true", help="they come out again by replaying")
    pack.set_defaults(command=commands.pack)

    unpack = _command(subparsers, "unpack", "a packed submission back into run folders, to the byte")
    unpack.add_argument("folder", type=Path, help="what `banel pack` made")
    unpack.add_argument("--out", type=Path, required=True, help="a new folder")
    unpack.set_defaults(command=commands.unpack)


def _add_settings(command: argparse.ArgumentParser) -> None:
    """Add the options that give an agent other settings than its default ones."""
    command.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="override a setting of the agent"
    )
    command.add_argument("--config", type=Path, help="a JSON or TOML file of settings")


def _add_own_code(command: argparse.ArgumentParser, agents: bool = True) -> None:
    """Add the options that name a person's own code. No other code outside the package is imported for a name in a folder."""
    command.add_argument(
        "--task",
        action="append",
        default=[],
        metavar="MODULE:FUNCTION",
        help="code of a task of your own in the folder",
    )
    if agents:
        command.add_argument(
            "--agent",
            action="append",
            default=[],
            metavar="MODULE:CLASS",
            help="code of an agent of your own, likewise",
        )


def _command(subparsers: Any, name: str, about: str) -> argparse.ArgumentParser:
    """Add a command. Its help says what it does and ends with an example."""
    description = f"{about[0].upper()}{about[1:]}."
    epilog = _examples(EXAMPLES[name])
    made: Parser = subparsers.add_parser(
        name, help=about, description=description, epilog=epilog, formatter_class=_Help
    )
    return made


def _examples(commands: Sequence[str]) -> str:
    return "\n".join((f"example{'s' * (len(commands) > 1)}:", *(f"  {command}" for command in commands)))


def _add_running(command: argparse.ArgumentParser) -> None:
    """Add the options of every command that makes runs."""
    command.add_argument("--out", type=Path, required=True, help="the folder that holds all runs")
    command.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at once (default: every core)")
    command.add_argument("--timeout", type=float, help="seconds after which a run is stopped and counted as failed")
    command.add_argument(
        "--log",
        action="append",
        default=[],
        metavar="SINK:WHERE",
        help="show the points while runs go on: tensorboard:DIR, or wandb:PROJECT (offline by default)",
    )
    command.add_argument("--isolate", action="store_true", help="keep the reward out of the agents' processes")
