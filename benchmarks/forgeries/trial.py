"""What does a liar get past the checks? `python -m benchmarks.forgeries [--only NAME] [--out DIR]`.

Makes a small honest board (the addition attack, seeds 0 and 1), then for each forgery of catalogue.py takes a copy, forges
one run of it, and asks the real commands: `banel board` (page and table), `banel show` and `banel replay`. Printed for each:

- refused: the board names the run and does not count it;
- marked: it is shown without a rank, or its rates as reported;
- found by replay: the board says no more than recomputed, and `banel replay` does not prove it;
- harmless: what was forged is not read at all, and the run counts as what it is;
- ACCEPTED, EXECUTED, HUNG, TRACEBACK, LOST THE BOARD (another run's place too), SPOILT THE PAGE.

Exits 1 if there is one of the last line, or an honest run that is not ranked and proved.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from banel_envs.meter.oracle import Feedback
from banel_leaderboard.command.cli import main as banel
from banel_leaderboard.proving.load import load_runs
from banel_leaderboard.proving.standing import Standing
from banel_leaderboard.ranking.boards import make_boards
from banel_leaderboard.running.harness import run
from benchmarks.forgeries.catalogue import FORGERIES
from benchmarks.forgeries.change import TASK, Forgery
from benchmarks.forgeries.forging import packed

HONEST: tuple[tuple[str, Feedback, bool], ...] = (
    ("base", "failures", False),
    ("tempered", "failures", False),
    ("memorise", "full", False),
    ("count", "full", False),
    ("count", "failures", True),
)
SEEDS = (0, 1)
PATIENCE = 120.0  # seconds for all commands on one forgery
LARGEST_PAGE = 2_000_000  # bytes of the page of a dozen runs


@dataclass(frozen=True)
class Result:
    """What became of one forgery."""

    name: str
    outcome: str
    said: str


def make_honest(out: Path) -> None:
    """The honest board."""
    for seed in SEEDS:
        for agent, feedback, twin in HONEST:
            run(TASK, agent, seed, feedback=feedback, twin=twin, out=out)


def folder_of(out: Path, agent: str, regime: str, seed: int) -> Path:
    """Where a run lives."""
    return out / TASK / agent / regime / f"seed-{seed}"


def forge(forgery: Forgery, honest: Path, place: Path) -> Path:
    """A copy of the honest board with one forged run; its folder."""
    out = place / "board"
    shutil.copytree(honest, out)
    folder = folder_of(out, forgery.agent, forgery.regime, forgery.seed)
    (place / "cwd").mkdir()
    forgery.apply(folder, place)
    if forgery.packed is None:
        return folder
    part = packed(out, folder)
    forgery.packed(part, place)
    return part / folder.relative_to(out / TASK)


def ask(folder: Path, place: Path) -> dict[str, Any]:
    """All commands on a forged board, in this process."""
    out = place / "board"
    found: dict[str, Any] = {}
    os.chdir(place / "cwd")
    for name, arguments in {
        "page": ["board", str(out), "--out", str(place / "page.html")],
        "table": ["board", str(out), "--out", str(place / "board.md")],
        "show": ["show", str(folder), "-n", "2"],
        "replay": ["replay", str(folder), "--jobs", "1"],
    }.items():
        found[name] = _command(arguments)
    with contextlib.redirect_stderr(io.StringIO()):
        loaded = load_runs(out)
    relative = folder.relative_to(out).as_posix()
    found["refused"] = next((r.reason for r in loaded.refused if f"{relative}/".startswith(f"{r.path}/")), None)
    rows = [r for b in make_boards(loaded.runs) for t in b.tables for r in t.rows]
    mine = [row for row in rows if any(run.path == relative for run in row.runs)]
    found["ranked"] = any(row.rank is not None and row.rates >= Standing.RECOMPUTED for row in mine)
    found["replayed"] = any(row.rates == Standing.REPLAYED for row in mine)
    found["others"] = len(loaded.runs)
    page = place / "page.html"
    found["page_bytes"] = page.stat().st_size if page.exists() else 0
    found["script"] = page.exists() and "<script>alert" in page.read_text()
    return found


def _command(arguments: list[str]) -> dict[str, Any]:
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code: Any = banel(arguments)
    except SystemExit as error:
        code = error.code
    except BaseException:
        return {"code": None, "said": traceback.format_exc()}
    return {"code": code, "said": said.getvalue()}


def in_a_child(folder: Path, place: Path) -> dict[str, Any] | str:
    """The answers of `ask` from a forked process, or how that ended."""
    answers = place / "answers.json"

    def work() -> None:
        answers.write_text(json.dumps(ask(folder, place)))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(PATIENCE)
    if process.is_alive():
        process.kill()
        process.join()
        return "hung"
    return json.loads(answers.read_text()) if answers.exists() else f"executed or crashed (status {process.exitcode})"


def judge(forgery: Forgery, found: dict[str, Any] | str, place: Path, honest: int) -> Result:
    """What the answers mean."""
    harm = _harm(found, place, honest)
    if isinstance(found, str) or harm is not None:
        return Result(forgery.name, *(harm or (str(found).upper(), "")))
    if found["refused"] is not None:
        return Result(forgery.name, "refused", found["refused"])
    if not found["ranked"]:
        return Result(forgery.name, "marked", "no rank, or its rates are reported")
    if forgery.harmless:
        return Result(forgery.name, "harmless", "")
    if found["replay"]["code"] == 0 or found["replayed"]:
        return Result(forgery.name, "ACCEPTED", "ranked and proved")
    return Result(forgery.name, "found by replay", found["replay"]["said"].strip().splitlines()[0])


def _harm(found: dict[str, Any] | str, place: Path, honest: int) -> tuple[str, str] | None:
    """What a forgery must never do, if it did it."""
    if (place / "canary").exists():
        return "EXECUTED", ""
    if isinstance(found, str):
        return None
    for name in ("page", "table", "show", "replay"):
        if found[name]["code"] is None or "Traceback" in found[name]["said"]:
            return "TRACEBACK", f"{name}: {found[name]['said'].strip().splitlines()[-1]}"
    if found["page"]["code"] != 0 or found["others"] < honest - 2:
        return "LOST THE BOARD", found["page"]["said"].strip()[-200:]
    if found["script"] or found["page_bytes"] > LARGEST_PAGE:
        return "SPOILT THE PAGE", f"{found['page_bytes']:,} bytes"
    return None


def attempt(forgery: Forgery, honest: Path) -> Result:
    """Forge, ask, judge."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch).resolve()
        folder = forge(forgery, honest, place)
        count = sum(1 for _ in honest.rglob("record.json"))
        found = _in_a_process(place, folder) if forgery.process else in_a_child(folder, place)
        return judge(forgery, found, place, count)


def _in_a_process(place: Path, folder: Path) -> dict[str, Any] | str:
    """Real commands from a working folder that holds modules with the names of libraries."""
    program = Path(sys.executable).with_name("banel")
    for arguments in (
        ["board", str(place / "board"), "--out", str(place / "page.html")],
        ["replay", str(folder.parent), "--jobs", "2"],
        ["show", str(folder)],
        [
            "run",
            "--task",
            TASK,
            "--agent",
            "base",
            "--isolate",
            "--seeds",
            "7",
            "--budget",
            "20",
            "--out",
            str(place / "o"),
        ],
    ):
        try:
            done = subprocess.run(
                [program, *arguments], cwd=place / "cwd", capture_output=True, text=True, timeout=PATIENCE
            )
        except subprocess.TimeoutExpired:
            return "hung"
        if done.returncode != 0:
            return f"failed: {done.stderr.strip()[-200:]}"
    return in_a_child(folder, place)


def check_honest(honest: Path) -> Iterator[Result]:
    """The honest runs: all ranked as recomputed, all proved."""
    loaded = load_runs(honest)
    for refused in loaded.refused:
        yield Result(refused.path, "HONEST REFUSED", refused.reason)
    for board in make_boards(loaded.runs):
        for table in board.tables:
            for row in table.rows:
                if row.rank is None or row.rates < Standing.RECOMPUTED:
                    yield Result(
                        f"{board.regime} {row.first.agent}", "HONEST UNRANKED", str(row.runs[0].proved.reasons)
                    )
    proved = _command(["replay", str(honest), "--jobs", "1"])
    if proved["code"] != 0:
        yield Result("replay", "HONEST NOT PROVED", proved["said"][-500:])


def report(results: list[Result]) -> int:
    """Print the table; 1 if a forgery got through or did harm."""
    width = max(len(r.name) for r in results)
    for result in results:
        print(f"{result.name:<{width}}  {result.outcome:<16}  {result.said[:150]}")
    counts = Counter(r.outcome for r in results)
    print("\n" + ", ".join(f"{n} {outcome}" for outcome, n in counts.most_common()) + f" of {len(results)}")
    return int(any(outcome.isupper() for outcome in counts))


def main() -> int:
    """Run the list."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forgeries", description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="forgeries whose name holds this")
    parser.add_argument("--out", type=Path, help="keep the honest board here, and use it again")
    options = parser.parse_args()
    chosen = [f for f in FORGERIES if options.only is None or options.only in f.name]
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["BANEL_CACHE"] = str(Path(scratch) / "cache")
        honest = options.out or Path(scratch) / "honest"
        make_honest(honest)
        wrong = list(check_honest(honest))
        print(f"{sum(1 for _ in honest.rglob('record.json'))} honest runs, {len(wrong)} not accepted")
        results = []
        for forgery in chosen:
            results.append(attempt(forgery, honest))
            print(".", end="", flush=True, file=sys.stderr)
        print(file=sys.stderr)
    return report([*wrong, *results])
