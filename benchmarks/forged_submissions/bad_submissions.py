"""The bad submissions of `python -m benchmarks.forged_submissions`: what is spoilt, and which file and field must be named."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from banel_envs.policies.storage.container import METADATA
from banel_leaderboard.submission.metadata import NAME
from benchmarks.forged_submissions.bad_models import MODELS, T, V
from benchmarks.forged_submissions.handed_in import RUN, TASK, Harm, edit, instead, put, runs, says, sealed
from benchmarks.forgeries.forging import Forged, edit_lines

LINES = f"{TASK}/records.jsonl"
SEED = f"{TASK}/{RUN}"


@dataclass(frozen=True)
class Bad:
    """A bad submission."""

    name: str
    harm: Harm
    file: str  # a part of the name of the file that has to be named
    fields: tuple[str, ...]  # one of which has to be named


def described(name: str, field: str, /, **fields: Any) -> Bad:
    """A wrong field of submission.json."""
    return Bad(f"description: {name}", says(**fields), NAME, (field,))


def bad_file(name: str, harm: Harm, file: str, *fields: str) -> Bad:
    """A file that is none of a submission."""
    return Bad(f"files: {name}", harm, file, fields)


def number(name: str, change: Callable[[Forged], Any], *fields: str, run: str = RUN) -> Bad:
    """A lie about a run, with every hash in order."""
    return Bad(f"run: {name}", sealed(change, run), f"{TASK}/", fields)


def line(name: str, change: Callable[[dict[str, Any]], Any], *fields: str) -> Bad:
    """A line of records.jsonl that was typed."""
    return Bad(f"line: {name}", lambda folder, _: edit_lines(folder / TASK, change), TASK, fields)


def point(k: int, **fields: Any) -> Callable[[Forged], Any]:
    return lambda f: f.record["points"][k].update(fields)


def rate(name: str, **fields: Any) -> Callable[[Forged], Any]:
    return lambda f: f.record["points"][-1][name].update(fields)


def final_model(content: bytes) -> Callable[[Forged], Any]:
    """This model as the final policy, its hash in the record."""

    def change(f: Forged) -> None:
        structure = {"kind": "onnx", "vocabulary": V, "horizon": T, "end": None}
        header = {
            METADATA: {"policy": json.dumps(structure)},
            "model": {"dtype": "U8", "shape": [len(content)], "data_offsets": [0, len(content)]},
        }
        text = json.dumps(header).encode()
        f.store(len(text).to_bytes(8, "little") + text + content)

    return change


def copied_seed(part: Path) -> None:
    """The lucky seed once more, under another number."""
    forged = Forged.read(part / "table" / "full" / "seed-0")
    shutil.rmtree(part / "table" / "full" / "seed-1")
    forged.bind(seed=0)
    forged.write(part / "table" / "full" / "seed-1")


def second_attempt(part: Path) -> None:
    """The same seed with other settings, beside the first."""
    forged = Forged.read(part / "table" / "full" / "seed-0")
    forged.bind(config=forged.record["config"] | {"batch": 250})
    forged.write(part / "again" / "full" / "seed-0")


def without(run: str) -> Callable[[Path], Any]:
    return lambda part: shutil.rmtree(part / run)


def bomb(folder: Path, _: Path) -> None:
    size = 499_000_000
    (folder / TASK / "ledgers-000.xz").write_bytes(lzma.compress(bytes(size), preset=0))
    edit_lines(folder / TASK, lambda line: line["ledger"].update(packed=size, bytes=size))


def linked_folder(folder: Path, place: Path) -> None:
    shutil.move(folder / TASK, place / "elsewhere")
    (folder / TASK).symlink_to(place / "elsewhere")


def hard_bits(folder: Path, _: Path) -> None:
    path = folder / TASK / "policies-000.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


DESCRIBED = [
    described("a right-to-left name", "name", name="gpj.\u202eexe"),
    described("a zero-width name", "name", name="Ba\u200bNEL"),
    described("an empty name", "name", name=""),
    described("a name of a megabyte", "size", name="x" * 2**20),
    described("a name of 81 letters", "name", name="x" * 81),
    described("a name with a line break", "name", name="a\nb"),
    described("no author", "authors", authors=[]),
    described("an author that is a number", "authors.0", authors=[1]),
    described("an author with an escape sequence", "authors.0", authors=["\x1b[31mred"]),
    described("a link to a script", "link", link="javascript:alert(1)"),
    described("a link without https", "link", link="http://example.org"),
    described("a link with quotation marks", "link", link='https://x.org/"onclick="alert(1)'),
    described("a link to data", "link", link="data:text/html,x"),
    described("a link with a password", "link", link="https://a:b@x.org/"),
    described("a licence with markup", "licence", licence="<script>"),
    described("a commit that is a branch", "commit", commit="main"),
    described("the 30th of February", "date", date="2026-02-30"),
    described("a date in words", "date", date="today"),
    described("a suite that is a path", "suite", suite="../../smoke"),
    described("a suite that is none", "suite", suite="mine"),
    described("no feedback", "feedbacks", feedbacks=[]),
    described("a feedback twice", "feedbacks", feedbacks=["full", "full"]),
    described("a feedback that was not run", "feedbacks", feedbacks=["full"]),
    described("tuning below zero", "tuning.nre", tuning={"configurations": 0, "nre": -1}),
    described("tuning in words", "tuning.nre", tuning={"configurations": 0, "nre": "none"}),
    described("no attempt", "attempts", attempts=0),
    described("half an attempt", "attempts", attempts=1.5),
    described("10^40 attempts", "attempts", attempts=10**40),
    described("tuned, said to be fixed", "kind", kind="fixed"),
    described("a kind that is none", "kind", kind="off"),
    described("a note of 2,001 letters", "note", note="x" * 2_001),
    described("a field that is none", "rank", rank=1),
    described("a form of the future", "submission", submission=2),
    Bad(
        "description: a key twice",
        edit(lambda t: t.replace('"attempts"', '"attempts": 9, "attempts"')),
        NAME,
        ("file",),
    ),
    Bad("description: NaN", edit(lambda t: t.replace('"attempts": 1', '"attempts": NaN')), NAME, ("file",)),
    Bad("description: 10,000 deep", edit(lambda _: '{"a":' * 10_000), NAME, ("file",)),
    Bad("description: not UTF-8", put(NAME, b"\xff\xfe{}"), NAME, ("file",)),
    Bad("description: missing", lambda folder, _: (folder / NAME).unlink(), NAME, ("file",)),
    Bad("description: a link", instead(NAME, lambda p: p.symlink_to("/etc/passwd")), NAME, ("kind",)),
    Bad("description: a pipe", instead(NAME, os.mkfifo), NAME, ("kind",)),
    Bad("description: a folder", instead(NAME, Path.mkdir), NAME, ("file",)),
]

FILES = [
    bad_file("a module", put("evil.py"), "evil.py", "name"),
    bad_file("a module in a task", put(f"{TASK}/sitecustomize.py"), "sitecustomize.py", "name"),
    bad_file("an attestation", put("attestations.jsonl", b"{}\n"), "attestations.jsonl", "name"),
    bad_file("a folder of attestations", put("attestations/x.json", b"{}"), "attestations/x.json", "name"),
    bad_file("a pickle", put(f"{TASK}/policy.pkl"), "policy.pkl", "name"),
    bad_file("an archive", put("runs.zip", b"PK\x03\x04"), "runs.zip", "name"),
    bad_file("a hidden file", put(".git/config"), ".git", "name"),
    bad_file("a name with an escape sequence", put("\x1b[31m.json"), "\x1b", "name"),
    bad_file("a name that reads backwards", put("x\u202eslnosj"), "\u202e", "name"),
    bad_file("a link out of the folder", lambda f, _: (f / "up").symlink_to("/etc"), "up", "kind"),
    bad_file("records that are a link", instead(LINES, lambda p: p.symlink_to("/dev/zero")), LINES, "kind"),
    bad_file("a ledger that is a pipe", instead(f"{TASK}/ledgers-000.xz", os.mkfifo), "ledgers-000.xz", "kind"),
    bad_file("a task that is a link", linked_folder, TASK, "kind"),
    bad_file("a program", lambda f, _: (f / LINES).chmod(0o755), LINES, "kind"),
    bad_file("11 MB", put(f"{TASK}/ledgers-001.xz", bytes(10_000_001)), "ledgers-001.xz", "size"),
    bad_file("a file of 2^40 bytes", instead(LINES, lambda p: _sparse(p)), LINES, "size"),
    bad_file("2,000 files", lambda f, p: [put(f"{TASK}/ledgers-{k:03}.xz")(f, p) for k in range(1_000)], ".", "files"),
    bad_file("70 files", lambda f, p: [put(f"{TASK}/ledgers-{k:03}.xz")(f, p) for k in range(70)], ".", "files"),
    bad_file("10 levels", put("a/" * 10 + "x"), "a/a", "name"),
    bad_file("no records", lambda f, _: (f / LINES).unlink(), "records.jsonl", "file"),
    bad_file("no ledgers", lambda f, _: (f / TASK / "ledgers-000.xz").unlink(), "ledgers-000.xz", "file"),
    bad_file("a ledger of another task", put(f"{TASK}/ledgers-001.xz"), "ledgers-001.xz", "file"),
    bad_file("a bomb", bomb, TASK, "file", "ledger.bytes"),
    bad_file(
        "a stream that is cut", lambda f, _: os.truncate(f / TASK / "ledgers-000.xz", 500), "ledgers-000.xz", "file"
    ),
    bad_file("a policy with another bit", hard_bits, "policies-000.safetensors", "file"),
]


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


SUITES = [
    Bad("suite: a seed is missing", runs(without("table/full/seed-1")), f"{TASK}/table/full/seed-1", ("seed",)),
    Bad("suite: the unlucky regime is missing", runs(without("table/failures")), TASK, ("seed",)),
    Bad("suite: one seed twice", runs(copied_seed), TASK, ("seed", "record")),
    Bad("suite: a second attempt beside it", runs(second_attempt), TASK, ("seed",)),
    number("a seed of its own", lambda f: f.bind(seed=4_711), "seed"),
    number("a regime of another name", lambda f: f.bind(feedback="failures"), "seed", "feedback"),
    number("a twin that is none of the suite", lambda f: f.bind(twin=True), "seed", "feedback", "ledger", "points"),
    number("another budget", lambda f: f.bind(budget=9_000), "points", "off_board", "record"),
    number("off the board, said to be on it", lambda f: f.bind(budget=2_500), "points", "off_board", "record"),
    line("another task", lambda x: x["record"].update(task="banel/Needle-v0"), "task", "seed"),
    number("another digest", lambda f: f.bind(digest="e" * 64), "digest"),
    number("another version", lambda f: f.header.update(version="<b>"), "record", "points", "version"),
    number("inherited answers", lambda f: f.header.update(inherits="a" * 64), "inherits", "points"),
    number("another vocabulary", lambda f: f.header.update(vocabulary=V + 1), "vocabulary", "ledger"),
]


def all_answered(forged: Forged, reward: int) -> None:
    """Every answer is this one."""
    for _, rewards in forged.asks:
        rewards.fill(reward)


def beyond(forged: Forged) -> None:
    """Tokens that the vocabulary does not have, and a header that says it has."""
    forged.asks[0][0].fill(V - 1)
    forged.header.update(vocabulary=V + 5)


NUMBERS = [
    number("an answer turned", lambda f: f.answer(0, 0, 1 - int(f.asks[0][1][0])), "ledger"),
    number("every answer a success", lambda f: all_answered(f, 1), "ledger"),
    number("every answer a failure", lambda f: all_answered(f, 0), "ledger"),
    number(
        "tokens beyond the vocabulary",
        beyond,
        "vocabulary",
    ),
    number("a final rate typed", lambda f: f.claim(-9.0), "points"),
    number("fresh success typed", lambda f: f.claim(-9.0, "fresh"), "points"),
    number("a better fresh success", lambda f: f.claim(-0.001, "fresh"), "points"),
    number("a rate above 1", lambda f: f.claim(0.5), "points"),
    number("a rate of zero", lambda f: f.claim(-np.inf), "points"),
    number("an exact rate with an interval", rate("success", low=-9.0), "points"),
    number("an exact rate with samples", rate("success", samples=10), "points"),
    number(
        "an exact rate called an estimate", rate("success", method="monte_carlo", samples=10**6), "points.15.success"
    ),
    number("effective successes typed", rate("success", effective=99.0), "points"),
    number("unasked mass typed", lambda f: f.record.update(unasked=-0.3), "points", "policy", "policy_sha256"),
    line("the first success typed", lambda x: x["record"].update(first_success=1), "first_success"),
    line("successes typed", lambda x: x["record"].update(successes_asked=5_000), "successes_asked"),
    line("no success typed", lambda x: x["record"].update(successes_asked=0, first_success=None), "successes_asked"),
    line("errors typed", lambda x: x["record"].update(errors=3), "errors"),
    line("another head", lambda x: x["record"]["ledger"].update(head="0" * 64), "ledger.head"),
    line("more questions", lambda x: x["record"]["ledger"].update(count=4_000), "ledger.count"),
    line("another seed", lambda x: x["record"].update(seed=1), "seed"),
    line("another agent", lambda x: x["record"].update(agent="banel"), "agent"),
    line("settings typed", lambda x: x["record"]["config"].update(batch=1), "config"),
    line("a NaN", lambda x: x["record"]["points"][0]["success"].update(log10=float("nan")), "file"),
    line(
        "a rate in words",
        lambda x: x["record"]["points"][-1]["success"].update(log10="best"),
        "points.15.success.log10",
    ),
    line("a field that is none", lambda x: x["record"].update(rank=1), "rank"),
    line("a field is missing", lambda x: x["record"].pop("seed"), "seed"),
    line("a text as a seed", lambda x: x["record"].update(seed="0"), "seed"),
    line("an agent that is a path", lambda x: x["record"].update(agent="../../x"), "agent"),
    line("an agent that is code", lambda x: x["record"].update(agent="evil:Agent"), "agent"),
    line("a task that is code", lambda x: x["record"].update(task="evil:task"), "task"),
    line("a run outside of the folder", lambda x: x.update(run="../../evil"), "run"),
    line("a ledger of 2^40 bytes", lambda x: x["ledger"].update(bytes=2**40), "ledger.bytes"),
    line("a ledger of another hash", lambda x: x["ledger"].update(sha256="0" * 64), "file"),
    line("a policy of another hash", lambda x: x["policy"].update(sha256="0" * 64), "file"),
    line("a file of another name", lambda x: x["ledger"].update(file="../x"), "ledger.file"),
    line("a form of the future", lambda x: x.update(packed=2), "packed"),
    number("the curve at other places", lambda f: f.record["points"].pop(3), "points"),
    number("repeats typed", point(5, repeated=0.99), "points.5.repeated"),
    number("repeats left out", point(5, repeated=None), "points.5.repeated"),
    number("malformed questions typed", point(5, invalid=0.5), "points.5.invalid"),
    number("another policy's hash", lambda f: f.record.update(policy_sha256="a" * 64), "policy_sha256"),
    number("a policy of random bytes", lambda f: f.store(hashlib.sha256(b"x").digest()), "policy", "policy_sha256"),
    number(
        "a policy with a header of 2^40 bytes",
        lambda f: f.store((2**40).to_bytes(8, "little") + b"{}"),
        "policy",
        "policy_sha256",
    ),
]

BAD = [
    *DESCRIBED,
    *FILES,
    *SUITES,
    *NUMBERS,
    *(
        Bad(f"model: {name}", sealed(final_model(content)), SEED, ("policy", "policy_sha256", "points"))
        for name, content in MODELS.items()
    ),
]
