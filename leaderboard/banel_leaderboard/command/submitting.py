"""The commands that hand in a submission, check one, and try one again: submit, check, rerun."""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import tempfile
from pathlib import Path

from banel_envs.errors import BadValue
from banel_envs.files.visible import terminal
from banel_leaderboard.command.commands import EXIT_RUN_FAILED
from banel_leaderboard.command.publish import SUBMISSIONS, show, write


def check(options: argparse.Namespace) -> int:
    """Check a submission; 1 if it is refused."""
    from banel_leaderboard.proving.standing import read_attestations
    from banel_leaderboard.submission.check import check_submission, submissions_in

    if options.against is not None and not options.against.is_dir():
        raise BadValue(
            f"--against is {options.against}, which is no folder; name the one that holds the other submissions"
        )
    others = submissions_in(options.folder.absolute().parent if options.against is None else options.against)
    attestations = [] if options.attestations is None else read_attestations(options.attestations, options.folder)
    if options.report is not None and options.report.resolve().is_relative_to(options.folder.resolve()):
        raise BadValue(f"--report is {options.report}; name a file outside {options.folder}")
    if options.report is not None and (options.report.is_dir() or not options.report.parent.is_dir()):
        raise BadValue(f"--report is {options.report}; name a file in a folder that is there")
    report, _ = check_submission(options.folder, others, attestations)
    for line in report.lines():
        print(line)
    print("passed" if report.passed else f"refused: {len(report.refused)} findings")
    if options.report is not None:
        options.report.write_text(json.dumps(report.as_json(), indent=1) + "\n")
    return 0 if report.passed else EXIT_RUN_FAILED


def submit(options: argparse.Namespace) -> int:
    """Pack, check and describe the runs of a folder, and write them as a submission; nothing is sent anywhere."""
    from banel_leaderboard.submission.submit import Given, git_lines, row_lines, submit

    given = Given(
        name=options.name,
        authors=tuple(options.author) or _git_author(),
        link=options.link,
        licence=options.licence,
        commit=options.commit,
        date=options.date or datetime.datetime.now(datetime.UTC).date().isoformat(),
        suite=options.suite,
        configurations=options.tuning_configurations,
        nre=options.tuning_nre,
        attempts=options.attempts,
        note=options.note,
    )
    submissions = _submissions(options.submissions)
    done = submit(options.folder, submissions, given, not options.without_policies)
    for line in (*done.report.lines(), *row_lines(done.runs, done.others)):
        print(line)
    print(f"\nwrote {terminal(done.folder)}; to open the pull request, in a clone of the repository:")
    for line in git_lines(done.folder, given.name):
        print(f"    {line}")
    if options.open:
        site = Path(tempfile.mkdtemp(prefix="banel-"))
        write(submissions, site)
        show(site)
    return 0


def rerun(options: argparse.Namespace) -> int:
    """Run a submission's agent again and print the verdict; 1 if the submission is contradicted."""
    from banel_leaderboard.submission import instance
    from banel_leaderboard.submission.rerun import Again, lines, rerun

    if options.runs is not None and options.runs < 1:
        raise BadValue(f"--runs is {options.runs}; it must be at least 1")
    inside = options.folder.resolve()
    for name in ("attestations", "out"):
        place = getattr(options, name)
        if place is not None and place.resolve().is_relative_to(inside):
            raise BadValue(f"--{name} is {place}; name a folder outside {options.folder}")
    again = Again(options.agent, options.agent_from, options.called, tuple(options.task), options.runs)
    if options.instance:
        beside = instance.on_instance(options.folder, again, options.out)
        said, write, contradicted = instance.lines(beside), beside.write, False
    else:
        verdict = rerun(options.folder, again, options.out)
        said, write, contradicted = lines(verdict), verdict.write, verdict.verdict == "contradicted"
    for line in said:
        print(terminal(line))
    if options.attestations is not None:
        print(f"wrote {terminal(write(options.attestations))}")
    return EXIT_RUN_FAILED if contradicted else 0


def _submissions(folder: Path | None) -> Path:
    """The folder that submissions are written into."""
    if folder is not None:
        return folder
    if not SUBMISSIONS.is_dir():
        raise BadValue(
            f"there is no {SUBMISSIONS} here; run it in a clone of the repository, or name a folder: --submissions DIR"
        )
    return SUBMISSIONS


def _git_author() -> tuple[str, ...]:
    """The name that git knows; BadValue if it knows none."""
    try:
        said = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True, timeout=10, check=False)
        name = said.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        name = ""
    if not name:
        raise BadValue("no author is named, and git knows none; give --author NAME, once for each")
    return (name,)
