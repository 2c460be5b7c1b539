"""The commands `banel site` and `banel plot`: submissions as pages, and runs as figures for a paper."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from banel_leaderboard.running.lookup import Known
    from banel_leaderboard.site.gather import Gathered

SUBMISSIONS = Path("leaderboard/submissions")
ATTESTATIONS = "attestations"  # the folder of them, beside that of the submissions
FORMATS = ("pdf", "svg", "png")


def site(options: argparse.Namespace) -> int:
    """Write the site of all submissions below a folder."""
    from banel_leaderboard.running.lookup import own_code

    known = own_code(options.task, options.agent)
    gathered, files = write(options.submissions, options.out, options.attestations, known)
    size = sum(path.stat().st_size for path in files)
    count = len(gathered.handed)
    index = options.out / "index.html"
    print(f"wrote {index} ({index.stat().st_size:,} bytes) and {len(files) - 1} pages, {size:,} bytes in all", end="")
    print(
        f", of {count} submission{'s' * (count != 1)}{f'; {len(gathered.unread)} could not be read' if gathered.unread else ''}"
    )
    if options.open:
        show(options.out)
    return 0


def write(
    submissions: Path, out: Path, attestations: Path | None = None, known: Known | None = None
) -> tuple[Gathered, list[Path]]:
    """Write the site of some submissions into a folder; what was gathered, and the files.

    Attestations are those of the folder beside the submissions, unless others are named.
    """
    from banel_leaderboard.proving.standing import read_attestations
    from banel_leaderboard.site.gather import gather
    from banel_leaderboard.site.write import write_site

    beside = submissions.resolve().parent / ATTESTATIONS
    folder = attestations or (beside if beside.is_dir() else None)
    # Whoever submits may write attestations into the submission, so none inside the folder is believed.
    told = [] if folder is None else read_attestations(folder, submissions)
    gathered = gather(submissions, known, told, folder if folder is not None and folder.is_dir() else None)
    return gathered, write_site(gathered, out)


def show(site: Path) -> None:
    """Open a site that was written in a browser."""
    webbrowser.open((site / "index.html").resolve().as_uri())


def plot(options: argparse.Namespace) -> int:
    """Draw the figures of folders of runs."""
    from banel_leaderboard.running.lookup import own_code
    from banel_leaderboard.site.figures import read, write_figures

    runs = read(options.folders, own_code(options.task, options.agent))
    files = write_figures(runs, options.out, options.format)
    print(f"wrote {len(files)} figures into {options.out}: {', '.join(path.name for path in files)}")
    return 0
