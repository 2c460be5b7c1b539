"""Check a submission, from (a) to (h): the same for whoever hands it in and whoever takes it in.

It needs no network and no secret, and executes nothing of the submitter: names in files are looked up in the registries
alone, and policies are arrays or ONNX models that were inspected before they run. What refuses a submission names the file
and the field; what only looks odd is flagged, and a maintainer decides.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterable
from pathlib import Path

from banel_envs.errors import BadValue, BanelError
from banel_leaderboard.proving.load import Loaded, Refused, Run, load_runs
from banel_leaderboard.proving.standing import Attestation, Standing
from banel_leaderboard.ranking.boards import regime_of
from banel_leaderboard.ranking.seed_sets import without_copies
from banel_leaderboard.records.find_runs import valid_records
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.running.lookup import Known
from banel_leaderboard.submission.metadata import NAME, SubmissionError, load_submission
from banel_leaderboard.submission.steps.completeness import Place, check_suite, place_of, shown_place
from banel_leaderboard.submission.steps.copies import check_copies
from banel_leaderboard.submission.steps.cost import check_cost
from banel_leaderboard.submission.steps.findings import STEPS, Finding, Report, Step
from banel_leaderboard.submission.steps.layout import check_layout
from banel_leaderboard.submission.steps.too_fast import check_speed

UNREAD = "a file is not what it must be"
ALONE = "no other submission lies beside it"
SILENT = "no agent here says which policy it asks samples of"


def check_submission(
    folder: Path, others: Iterable[Path] = (), attestations: Iterable[Attestation] = (), known: Known | None = None
) -> tuple[Report, Loaded]:
    """Check a submission.

    Args:
        folder: the submission, `<date>-<name>/`.
        others: other submissions, which its ledgers are compared with; the submission itself is left out.
        attestations: which runs were replayed; they are kept outside the submission.
        known: code of tasks and agents of one's own; nothing but the registries without it.

    Returns:
        The report, and the runs that count. If a file is not what it must be, nothing else is checked.

    Raises:
        BadValue: there is no such folder.
    """
    if not folder.is_dir() or folder.is_symlink():
        raise BadValue(f"{folder} is not a folder; name the one of a submission, which holds {NAME}")
    report, nothing, known = Report(), Loaded((), ()), known or Known()
    report.refused += check_layout(folder)
    said = None
    try:
        said = load_submission(folder)
    except SubmissionError as error:
        if all(finding.file != NAME for finding in report.refused):  # that it is missing was found already
            wrong = str(error).replace(f"{folder}/", "")
            report.refused.append(Finding("a", NAME, _field(str(error)) or "file", wrong))
    if said is None or report.refused:
        return _stopped(report), nothing
    with contextlib.redirect_stderr(io.StringIO()):  # it names what it refuses, which the report does too
        loaded = load_runs(folder, known, attestations)
    of_runs = [_of_run(refused) for refused in loaded.refused]
    if any(finding.step == "a" for finding in of_runs):
        report.refused += of_runs
        return _stopped(report), nothing
    # A run that is refused for a number is not missing from the suite too.
    records = list(valid_records(folder)) if of_runs else [run.record for run in loaded.runs]
    report.refused += [*_twice(records), *check_suite(said, records), *of_runs]
    report.flagged += [*_not_judged(loaded.runs), *check_cost(loaded.runs)]
    too_fast, tested = check_speed(loaded.runs)
    report.flagged += too_fast
    if not tested:
        report.skipped["g"] = SILENT
    beside = [other for other in others if other.resolve() != folder.resolve()]
    report.flagged += check_copies(folder, beside)
    if not beside:
        report.skipped["h"] = ALONE
    _count(report, loaded.runs)
    return report, loaded


def _stopped(report: Report) -> Report:
    """The report of a submission in which a file is not what it must be."""
    report.skipped.update(dict.fromkeys(list(STEPS)[1:], UNREAD))
    return report


def submissions_in(folder: Path) -> list[Path]:
    """The submissions that lie in a folder, in order: its folders that hold a submission.json."""
    return sorted(path.parent for path in folder.glob(f"[!.]*/{NAME}")) if folder.is_dir() else []


def _twice(records: list[RunRecord]) -> list[Finding]:
    seen: set[Place] = set()
    found = []
    for record in records:
        place = place_of(record)
        if place in seen:
            found.append(Finding("b", shown_place(place), "seed", "it stands there twice; leave the other attempt out"))
        seen.add(place)
    return found


def _not_judged(runs: tuple[Run, ...]) -> list[Finding]:
    """Flags for runs whose answers cannot be recomputed here, such as those of a judge of another version."""
    return [
        Finding("c", shown_place(place_of(run.record)), "ledger", f"its answers are reported: {run.proved.reasons[-1]}")
        for run in runs
        if run.proved.answers == Standing.REPORTED
    ]


def _count(report: Report, runs: tuple[Run, ...]) -> None:
    """How many runs there are, how many differ, and how far they are proved."""
    report.runs = len(runs)
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.record.task, run.record.agent, regime_of(run.record)), []).append(run)
        report.answers[run.proved.answers.word] += 1
        report.rates[run.proved.rates.word] += 1
        report.reasons.update(run.proved.reasons)
    report.different = sum(len(without_copies(group)[0]) for group in groups.values())


# A run that was refused: which step refused it, and which field


_STEPS: dict[str, Step] = {
    "RecordError": "a",
    "FileRefused": "a",
    "FileMissing": "a",
    "BadValue": "a",
    "RunRefused": "d",
}
_PACKED = re.compile(r"(\S+/(?:ledgers-\d{3}\.xz|policies-\d{3}\.safetensors|records\.jsonl))\b")
_RATES = re.compile(r"final |policy_sha256|10\^|its final policy|it says how much|.*final\.safetensors")


def _of_run(refused: Refused) -> Finding:
    """The finding of a run, from the error that refused it."""
    reason = refused.reason
    field = _field(reason)
    step: Step = _STEPS.get(refused.kind, "c")
    if refused.kind == "Disproved":
        answers = reason.startswith(("the answer", "what is asked"))
        step = "e" if _RATES.match(reason) else "c" if answers else "d" if reason.startswith("points.") else "b"
    if step == "e":
        field = field or ("points" if reason.startswith("final") else "policy_sha256")
    if reason.startswith("the curve"):
        field = "points"
    default = {"a": "file", "c": "ledger", "d": "points", "e": "policy"}.get(step, "record")
    named = _PACKED.match(reason)  # a file that several runs share
    return Finding(step, refused.path if named is None else named[1], field or default, reason)


def _field(reason: str) -> str | None:
    """The field that an error is about: it begins with it, or names it between colons."""
    found = re.match(r"([a-z_]+(?:\.[a-z_0-9]+)*) is ", reason) or re.search(r": ([A-Za-z_]+(?:\.[\w]+)*): ", reason)
    return None if found is None else found[1]


def refuse(report: Report) -> None:
    """Raise BanelError with the first finding, if one refuses the submission."""
    if not report.passed:
        more = f"; and {len(report.refused) - 1} more" if len(report.refused) > 1 else ""
        raise BanelError(f"the submission is refused: {report.refused[0]}{more}")
