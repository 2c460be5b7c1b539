"""How large the site of 100 submissions is, and how long it takes a browser to draw it and to rank again.

`python -m benchmarks.site` makes synthetic submissions in memory (one agent each, on 20 tasks, 5 seeds), writes their site
and opens it in headless Chromium. The runs are made up, with curves that rise and wander as those of real runs do; nothing of
them is verified, which `banel site` does first and which takes far longer. The bar is 500 KB for index.html.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from banel_agents import AGENTS
from banel_envs import TASKS
from banel_envs.meter.oracle import Feedback
from banel_envs.tasks import SHIPPED
from banel_leaderboard.proving.asked import Asked
from banel_leaderboard.proving.load import Loaded, Proved, Run
from banel_leaderboard.proving.standing import Standing
from banel_leaderboard.records.record import SCHEMA, Execution, LedgerMark, Point, Rate, RunRecord, Work
from banel_leaderboard.running.evaluator import grid
from banel_leaderboard.site.gather import Gathered, Handed
from banel_leaderboard.site.write import write_site
from banel_leaderboard.submission.metadata import Submission

BAR = 500_000  # bytes of index.html
OUTSIDE = ("outside/ExtraOne-v0", "outside/ExtraTwo-v0", "outside/ExtraThree-v0")  # to have 20 tasks
NEVER = 0.3  # the share of tasks on which an agent meets no success


def synthetic(submissions: int, tasks: int, seeds: int, feedbacks: tuple[Feedback, ...] = ("failures",)) -> Gathered:
    """Submissions of one agent each, with records as the harness writes them and numbers that are drawn."""
    names = [*[id for id in SHIPPED if TASKS[id].negative_control is None], *OUTSIDE][:tasks]
    return Gathered(tuple(_handed(k, names, seeds, feedbacks) for k in range(submissions)))


def _handed(number: int, tasks: list[str], seeds: int, feedbacks: tuple[Feedback, ...]) -> Handed:
    rng = np.random.default_rng(number)
    # The first ones are the controls that the scores compare with; every third of the rest is a shipped agent.
    known = ["base", "without_replacement", *sorted(AGENTS)]
    agent = known[number] if number < 2 or (number % 3 == 0 and number < len(known)) else f"method_{number}"
    id = f"2026-{1 + number % 12:02d}-{1 + number % 28:02d}-submission-{number:03d}"
    runs = [
        run
        for task in tasks
        for feedback in feedbacks
        for run in _row(id, agent, task, feedback, seeds, rng, learns=number >= 2)
    ]
    said = Submission(
        name=f"Method {number}: learning from failures" if number else "Controls",
        authors=(f"Author {number}", "A. Colleague"),
        link="https://example.org/paper",
        licence="MIT",
        date=id[:10],
        suite="v1",
        feedbacks=feedbacks,
        kind="fixed",
    )
    return Handed(id, id, said, "", Loaded(tuple(runs), ()))


def _row(
    id: str, agent: str, task: str, feedback: str, seeds: int, rng: np.random.Generator, learns: bool
) -> Iterator[Run]:
    """The runs of one agent on one task: a curve that rises after the first success, wandering."""
    shipped = TASKS[task] if task in TASKS else None  # noqa: SIM401 - it is no dict: get raises
    budget = shipped.problem.budget if shipped else 7_500
    base = -float(rng.uniform(2, 9)) if shipped is None else -2.5 - (hash_of(task) % 80) / 10
    never, slope = rng.random() < NEVER, rng.uniform(0, -base) if learns else 0.0
    for seed in range(seeds):
        first = None if never else int(budget * min(1.0, rng.beta(1.2, 4))) + 1
        first = None if first is not None and first > budget else first
        rise = np.cumsum(rng.normal(slope / 15, 0.12, 16) * (rng.random(16) < 0.8)) if learns else np.zeros(16)
        curve = np.minimum(base + np.r_[0.0, rise[1:]], -0.005).round(4)
        found = () if first is None else np.unique(rng.integers(first, budget + 1, 1 + int(rng.gamma(2.0, 40))))
        record = _record(task, agent, feedback, seed, budget, curve, first, len(found), rng)
        asked = Asked(f"{id}{task}{feedback}{seed}", np.array(found, np.int32))
        yield Run(
            f"{task}/{agent}/{seed}", record, "0.1.0", asked, Proved(Standing.RECOMPUTED, Standing.RECOMPUTED), id
        )


def hash_of(text: str) -> int:
    """A number that is the same in every process."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def _record(
    task: str,
    agent: str,
    feedback: str,
    seed: int,
    budget: int,
    curve: np.ndarray,
    first: int | None,
    hits: int,
    rng: np.random.Generator,
) -> RunRecord:
    def rate(value: float) -> Rate:
        return Rate(log10=value, low=value, high=value, method="exact", samples=0, effective=3.5, zero=False)

    tokens = int(10 ** rng.uniform(4.5, 7.5))
    return RunRecord(
        schema_number=SCHEMA,
        task=task,
        digest=TASKS[task].digest if task in TASKS else "d" * 64,
        agent=agent,
        config={"batch": 500},
        tuned=False,
        seed=seed,
        feedback=feedback,  # type: ignore[arg-type]
        twin=False,
        budget=budget,
        off_board=False,
        points=[
            Point(nre=nre, success=rate(float(v)), fresh=rate(float(v) - 0.1), invalid=None, repeated=None)
            for nre, v in zip(grid(budget), curve, strict=True)
        ],
        first_success=first,
        successes_asked=hits,
        ledger=LedgerMark(head="0" * 64, lines=2 * budget // 500, count=budget),
        policy_sha256=None,
        reported={},
        work=Work(sampled=tokens, scored=tokens // 2, trained=tokens // 4),
        execution=Execution(
            wall_s=float(rng.gamma(3, 20)),
            cpu_s=float(rng.gamma(3, 22)),
            evaluation_s=1.0,
            peak_memory_mb=300.0,
            resumed=0,
            threads=1,
            processor="synthetic",
            versions={"banel-envs": "0.1.0"},
        ),
    )


def main() -> None:
    """Write the site, and measure it in a browser where there is one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--submissions", type=int, default=100)
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--both", action="store_true", help="runs under both feedbacks, which doubles the rows")
    parser.add_argument("--out", type=Path, help="keep the site here")
    options = parser.parse_args()
    feedbacks: tuple[Feedback, ...] = ("failures", "full") if options.both else ("failures",)
    gathered = synthetic(options.submissions, options.tasks, options.seeds, feedbacks)
    with tempfile.TemporaryDirectory() as scratch:
        out = options.out or Path(scratch) / "site"
        start = time.perf_counter()
        files = write_site(gathered, out)
        took = time.perf_counter() - start
        index = out / "index.html"
        size, rows = index.stat().st_size, len(gathered.handed) * options.tasks * (1 + options.both)
        print(f"{len(gathered.handed)} submissions x {options.tasks} tasks x {options.seeds} seeds: {rows:,} rows")
        print(f"index.html: {size:,} bytes (bar {BAR:,}: {'met' if size <= BAR else 'missed'})")
        print(f"all {len(files)} files: {sum(p.stat().st_size for p in files):,} bytes, written in {took:.1f} s")
        print(json.dumps(_timed(index, Path(scratch)), indent=1))


def _timed(index: Path, scratch: Path) -> dict[str, float | str]:
    """Milliseconds to the first paint and until the page is drawn, and to rank again at another budget."""
    from tests.shared.browser import BROWSER, MISSING, browser

    if BROWSER is None:
        return {"browser": MISSING}
    with browser(scratch / "profile") as tab:
        tab.view(1280)
        tab.open(index)
        tab.wait("document.documentElement.dataset.ready")
        paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
        tab.wait(paint)
        moves = [tab.js(_move(step)) for step in (14, 9, 5, 2, 11, 15)]
        return {
            "first contentful paint, ms": round(tab.js(paint)),
            "whole page drawn, ms": round(tab.js("performance.getEntriesByName('drawn')[0].startTime")),
            "rank again, median ms": round(statistics.median(moves)),
            "rank again, largest ms": round(max(moves)),
            "heap, MB": round(tab.js("performance.memory.usedJSHeapSize") / 1e6, 1),
        }


def _move(step: int) -> str:
    """Move the slider; the time until the tables and figures are laid out anew."""
    return (
        "(() => { const slider = document.getElementById('step'), start = performance.now(); "
        f"slider.value = {step}; slider.dispatchEvent(new Event('input', {{bubbles: true}})); "
        "document.body.offsetHeight; return performance.now() - start; })()"
    )


if __name__ == "__main__":
    main()
