"""Texts that must stay texts, in every field that a stranger can write."""

from __future__ import annotations

import dataclasses
import math

from banel_leaderboard.proving.load import Loaded, Proved, Refused, Run
from banel_leaderboard.proving.standing import Standing
from banel_leaderboard.site.gather import Gathered, Handed
from banel_leaderboard.submission.metadata import Submission, Tuning

PAYLOADS = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><animate onbegin=alert(1) attributeName=x>",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    '"><a href=javascript:alert(1) autofocus onfocus=alert(1)>x</a>',
    "' onmouseover='alert(1)",
    "<style>*{display:none}</style>",
    "<link rel=stylesheet href=https://example.org/x.css>",
    "<meta http-equiv=refresh content='0;url=https://example.org'>",
    "<base href=https://example.org/>",
    "<form action=https://example.org><button autofocus>x</button></form>",
    "javascript:alert(1)//https://",
    "data:text/html,<script>alert(1)</script>",
    "{{7*7}}${alert(1)}<%= 1 %>",
    "<!--<script>",
    "]]><script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\\u003cscript\\u003ealert(1)",
    "__proto__",
    "constructor",
    '=HYPERLINK("https://example.org")',
    "\u202egnp.exe\u2066",
    "a\u0300\u0301\u0302\u0303\u0304\u0305\u0306\u0307\u0308\u0309" + "\u0310" * 60,
    "\ufdfd\ufdfd\ufdfd",
    "W" * 300,
    "word " * 120,
    "שלום עולם (מבחן)",
    "\x00\x07\x1b[31m",
    "line\nbreak\r\n\ttab",
    "\u2028\u2029",
    "\ud800",
)


def gathered(runs: tuple[Run, ...]) -> Gathered:
    """Submissions all of whose texts are hostile, past every check that would have refused them; one for each payload."""
    return Gathered(
        tuple(_handed(i, text, runs) for i, text in enumerate(PAYLOADS)),
        tuple((text, text) for text in PAYLOADS),
    )


def _handed(number: int, text: str, runs: tuple[Run, ...]) -> Handed:
    said = Submission.model_construct(
        submission=1,
        name=text,
        authors=(text, text),
        link=text,
        licence=text,
        commit=text,
        date=text,
        suite=text,
        feedbacks=(text,),
        tuning=Tuning(),
        attempts=1,
        kind="fixed",
        note=text,
    )
    own = tuple(_run(run, text, number) for run in runs)
    return Handed(text, f"page-{number}", said, "", Loaded(own, (Refused(text, text),)))


def _run(run: Run, text: str, number: int) -> Run:
    record = run.record
    execution = record.execution.model_copy(update={"processor": text, "versions": {text: text, "kernel": text}})
    changed = {
        "agent": text,
        # Every fourth task is called so too. The others keep their names, so that the submissions stand in one table.
        "task": text if number % 4 == 3 else record.task,
        "config": {text: text, "nested": [text, {text: text}]},
        "tuned": bool(number % 3),
        "execution": execution,
        "ledger": record.ledger.model_copy(update={"head": text}),
        "budget": record.budget,
    }
    proved = Proved(Standing.REPORTED, Standing.REPORTED, (text, f"{text} {math.pi}"))
    return dataclasses.replace(
        run, record=record.model_copy(update=changed), version=text, path=text, submission=text, proved=proved
    )
