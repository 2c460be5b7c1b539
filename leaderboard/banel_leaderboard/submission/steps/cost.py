"""(f) Whether the cost that a record states is one that a computer can have. Seconds and tokens stay *reported* either way."""

from __future__ import annotations

from banel_leaderboard.proving.load import Run
from banel_leaderboard.submission.steps.completeness import place_of, shown_place
from banel_leaderboard.submission.steps.findings import Finding

FASTEST = 1e8  # tokens a second and thread; the compiled kernel samples about 1e6
SLACK_CPU = 1.5  # CPU seconds over seconds times threads: other threads than the stated ones load libraries
LEAST_CPU = 5.0  # seconds; below that start-up counts for more than the run


def check_cost(runs: tuple[Run, ...]) -> list[Finding]:
    """Flags for costs that cannot be: nothing here refuses a submission."""
    found = []
    for run in runs:
        for field, said in _odd(run):
            found.append(Finding("f", shown_place(place_of(run.record)), field, said))
    return found


def _odd(run: Run) -> list[tuple[str, str]]:
    record = run.record
    work, execution = record.work, record.execution
    tokens = work.sampled + work.scored + work.trained
    threads = max(1, execution.threads)
    found = []
    if execution.cpu_s > LEAST_CPU and execution.cpu_s > SLACK_CPU * threads * execution.wall_s:
        found.append(
            ("execution.cpu_s", f"{execution.cpu_s:g} CPU seconds in {execution.wall_s:g} s on {threads} threads")
        )
    if tokens > FASTEST * threads * max(execution.wall_s, 1e-3):
        found.append(
            ("work", f"{tokens:,} tokens in {execution.wall_s:g} s; at most {FASTEST:g} a second are plausible")
        )
    return found
