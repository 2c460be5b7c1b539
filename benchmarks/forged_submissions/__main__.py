"""Bad submissions: `python -m benchmarks.forged_submissions [--only NAME]`.

Makes a small honest submission (an outsider's agent with an ONNX policy, four runs), then for each entry takes a copy, spoils
it, and asks `banel check` in a process of its own, with at most MEMORY bytes. Each has to be refused by a finding that names
the file and the field. Exits 1 if one is accepted, executed, ends in a traceback, hangs, or is refused without the two.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from banel_leaderboard.submission.check import check_submission
from benchmarks.forged_submissions.bad_submissions import BAD, Bad
from benchmarks.forged_submissions.handed_in import make_submission

PATIENCE = 60.0  # seconds for one check
MEMORY = 512  # MB that a check may add to what the process has


def attempt(bad: Bad, honest: Path) -> tuple[str, str]:
    """What becomes of one bad submission, and what was said."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch).resolve()
        folder = place / "submissions" / honest.name
        shutil.copytree(honest, folder)
        bad.harm(folder, place)
        said = place / "said.json"
        process = multiprocessing.get_context("fork").Process(target=_ask, args=(folder, said))
        process.start()
        process.join(PATIENCE)
        if process.is_alive():
            process.kill()
            return "HUNG", ""
        if (place / "canary").exists():
            return "EXECUTED", ""
        if not said.exists():
            return "CRASHED", f"status {process.exitcode}"
        return _judge(bad, json.loads(said.read_text()))


def _ask(folder: Path, said: Path) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        report, _ = check_submission(folder)
        found = [[f.file, f.field, f.said] for f in report.refused]
    except BaseException:
        said.write_text(json.dumps({"traceback": traceback.format_exc()}))
        return
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    said.write_text(json.dumps({"found": found, "grown": grown}))


def _judge(bad: Bad, said: dict[str, object]) -> tuple[str, str]:
    if "traceback" in said:
        return "TRACEBACK", str(said["traceback"]).strip().splitlines()[-1]
    found, grown = said["found"], said["grown"]
    assert isinstance(found, list) and isinstance(grown, float)
    if grown > MEMORY:
        return "TOOK MEMORY", f"{grown:.0f} MB"
    if not found:
        return "ACCEPTED", ""
    named = [f"{file}: {field}: {text}" for file, field, text in found if bad.file in file and field in bad.fields]
    return ("refused", named[0]) if named else ("NOT NAMED", f"{found[0]} and not {bad.file}: {bad.fields}")


def main() -> int:
    """Try the list."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forged_submissions", description=__doc__)
    parser.add_argument("--only", help="those whose name holds this")
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["BANEL_CACHE"] = str(Path(scratch) / "cache")
        honest = make_submission(Path(scratch))
        report, _ = check_submission(honest)
        if not report.passed or set(report.rates) != {"recomputed"}:
            print("\n".join(report.lines()))
            return 1
        for bad in (b for b in BAD if options.only is None or options.only in b.name):
            outcome, said = attempt(bad, honest)
            results.append(outcome)
            print(f"{bad.name:<55} {outcome:<11} {said[:150]}", flush=True)
    print(", ".join(f"{n} {outcome}" for outcome, n in Counter(results).most_common()) + f" of {len(results)}")
    return int(any(outcome.isupper() for outcome in results))


if __name__ == "__main__":
    sys.exit(main())
