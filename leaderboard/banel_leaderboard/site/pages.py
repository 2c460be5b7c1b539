"""The files of the site: the overview with its data and script, a page a submission, and the list of them.

Every page holds its style, and the overview its script and data, so that it works from file:// and loads nothing. A policy
(Content Security Policy) in each page allows exactly this style and script, by their hashes, and forbids every request.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from banel_envs.version import __version__
from banel_leaderboard.board import escape
from banel_leaderboard.board.glossary import GLOSSARY
from banel_leaderboard.running.evaluator import STEPS
from banel_leaderboard.site.gather import Gathered, Handed
from banel_leaderboard.site.island import island
from banel_leaderboard.site.submission_page import view

HERE = Path(__file__).parent
COLOURS = HERE.parent / "board" / "colours.css"
INDEX, FOLDER = "index.html", "submissions"
POLICY = "default-src 'none'; {script}style-src '{style}'; img-src data:; base-uri 'none'; form-action 'none'"


def pages(gathered: Gathered) -> dict[str, bytes]:
    """The path and content of every file. The same submissions give the same bytes."""
    style, script = _style(), _script()
    made = {INDEX: _index(gathered, style, script)}
    plain = {"style": Markup(style), "policy": _policy(style), "version": __version__}
    environment = _environment()
    for handed in gathered.handed:
        page = environment.get_template("submission.html.jinja").render(**plain, **view(handed))
        made[f"{FOLDER}/{handed.page}.html"] = page.encode()
    listed = environment.get_template("submissions.html.jinja").render(**plain, handed=gathered.handed)
    return made | {f"{FOLDER}/{INDEX}": listed.encode()}


def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        finalize=escape.page,  # every text is made safe here, so a template cannot forget one
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def _index(gathered: Gathered, style: str, script: str) -> bytes:
    template = _environment().get_template("index.html.jinja")
    page: str = template.render(
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        data=Markup(island(gathered)),
        facts=[(f"{n:,}", name.removesuffix("s") if n == 1 else name) for name, n in _facts(gathered).items()],
        refused=[(h.page, _name(h), len(h.loaded.refused)) for h in gathered.handed if h.loaded.refused],
        unread=gathered.unread,
        glossary=_words(gathered),
        steps=STEPS,
        version=__version__,
    )
    return page.encode()


def _facts(gathered: Gathered) -> Mapping[str, int]:
    records = [run.record for handed in gathered.handed for run in handed.runs]
    return {
        "submissions": len(gathered.handed),
        "agents": len({record.agent for record in records}),
        "tasks": len({record.task for record in records}),
        "runs": len(records),
        "evaluations": sum(record.ledger.count for record in records if not record.twin),
    }


def _words(gathered: Gathered) -> dict[str, str]:
    """The glossary, with those agents only that are on the page; a group is called a tier there."""
    here = {f"agent {run.record.agent}" for handed in gathered.handed for run in handed.runs}
    found = {word: said for word, said in GLOSSARY.items() if not word.startswith("agent ") or word in here}
    return {"tier" if word == "group" else word: said for word, said in found.items()}


def _name(handed: Handed) -> str:
    return handed.id if handed.said is None else handed.said.name


def _style() -> str:
    return COLOURS.read_text(encoding="utf-8") + (HERE / "site.css").read_text(encoding="utf-8")


def _script() -> str:
    """The parts of the script in the order of their names, in one function; comments and indents stay in the sources.

    The function is asynchronous, because the first part waits until the data is unpacked.
    """
    parts = [path.read_text(encoding="utf-8") for path in sorted((HERE / "script").glob("*.js"))]
    lines = [line.strip() for part in parts for line in part.splitlines()]
    lines = [line for line in lines if line and not line.startswith("//")]
    return '"use strict";\n(async () => {\n' + "\n".join(lines) + "\n})();\n"


def _policy(style: str, script: str = "") -> str:
    allowed = f"script-src '{_hash(script)}'; " if script else ""
    return POLICY.format(script=allowed, style=_hash(style))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
