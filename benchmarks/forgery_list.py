"""The forgeries of `python -m benchmarks.forgeries`: each says what a liar changes in one run of an honest board."""

from __future__ import annotations

import json
import lzma
import os
import pickle  # to make one: nothing here ever loads one
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from banel_envs import TASKS
from banel_envs.policies import Mixture, Repeating
from benchmarks.forging import Forged, edit_lines

TASK = "banel/AdditionAttack-v0"
Change = Callable[[Forged, Path], None]
Harm = Callable[[Path, Path], None]


@dataclass(frozen=True)
class Forgery:
    """One lie."""

    name: str
    apply: Harm  # (the run's folder, a place of its own)
    agent: str = "base"
    regime: str = "failures"
    seed: int = 0
    process: bool = False  # try the commands in processes of their own first
    packed: Harm | None = None  # then the run is packed, and this is done to (its part, a place of its own)
    harmless: bool = False  # what was changed is not read at all: the run still counts as what it is


def _sealed(change: Change) -> Harm:
    """Change a run and seal it again."""

    def apply(folder: Path, place: Path) -> None:
        forged = Forged.read(folder)
        change(forged, place)
        forged.write(folder)

    return apply


def _code(place: Path, name: str) -> None:
    """A module that leaves a canary when it is imported, in the working folder and beside the run."""
    text = f"open({str(place / 'canary')!r}, 'w').close()\nclass Agent: pass\ndef task(): pass\n"
    for folder in (place / "cwd", place / "board"):
        (folder / f"{name}.py").write_text(text)


def _set(**changes: Any) -> Harm:
    """Fields of the record, whatever the ledger says."""
    return _sealed(lambda f, _: f.record.update(changes))


def _bind(**changes: Any) -> Harm:
    """Fields of the record and of the ledger's first line alike."""
    return _sealed(lambda f, _: f.bind(**changes))


def _text(edit: Callable[[str], str], name: str = "record.json") -> Harm:
    """The file's text."""

    def apply(folder: Path, _: Path) -> None:
        (folder / name).write_text(edit((folder / name).read_text()))

    return apply


def _bytes(content: bytes, name: str) -> Harm:
    """The file's bytes; of a policy, with its hash in the record."""

    def apply(folder: Path, _: Path) -> None:
        forged = Forged.read(folder)
        if name == "final.safetensors":
            forged.store(content)
        forged.write(folder)
        (folder / name).write_bytes(content)

    return apply


def _instead(make: Callable[[Path, Path], None], name: str) -> Harm:
    """Something else than a regular file."""

    def apply(folder: Path, place: Path) -> None:
        (folder / name).unlink()
        make(folder / name, place)

    return apply


# Names that reach code


def _named(**changes: str) -> Harm:
    def apply(folder: Path, place: Path) -> None:
        _code(place, "evil")
        _bind(**changes)(folder, place)

    return apply


def _status(**changes: Any) -> Harm:
    def apply(folder: Path, place: Path) -> None:
        _code(place, "evil")
        _sealed(lambda f, _: f.status.update(changes))(folder, place)

    return apply


def _shadows(folder: Path, place: Path) -> None:
    for name in (
        "pydantic",
        "numpy",
        "json",
        "multiprocessing",
        "tqdm",
        "banel_agents",
        "jinja2",
        "torch",
        "sitecustomize",
    ):
        _code(place, name)


def _evil_kind(folder: Path, place: Path) -> None:
    _code(place, "evil")
    path = folder / "final.safetensors"
    tensors = load_file(path)
    _store(folder, tensors, json.dumps({"kind": "evil:Agent", "config": {}}), place)


def _store(folder: Path, tensors: dict[str, Any], spec: str, place: Path) -> None:
    draft = place / "draft.safetensors"
    save_file(tensors, draft, metadata={"policy": spec})
    forged = Forged.read(folder)
    forged.store(draft.read_bytes())
    forged.write(folder)


class _Canary:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


def _pickled(folder: Path, place: Path) -> None:
    content = pickle.dumps(_Canary(str(place / "canary")))
    _bytes(content, "final.safetensors")(folder, place)


# Answers


def _invent(f: Forged, _: Path) -> None:
    for _tokens, rewards in f.asks:
        rewards[:] = np.arange(len(rewards)) % 7 == 0
    f.claim(-0.01)


def _flip(to: int) -> Change:
    def change(f: Forged, _: Path) -> None:
        for _tokens, rewards in f.asks:
            rows = np.flatnonzero(rewards != to)
            if len(rows):
                rewards[rows[0]] = to
                return

    return change


def _all(to: int) -> Change:
    def change(f: Forged, _: Path) -> None:
        for _tokens, rewards in f.asks:
            rewards[:] = to

    return change


def _ask_successes(f: Forged, _: Path) -> None:
    successes = TASKS[TASK].successes()
    assert successes is not None
    tokens, rewards = f.asks[0]
    tokens[:] = np.resize(successes, tokens.shape)
    rewards[:] = 1


def _as_real(f: Forged, _: Path) -> None:
    f.bind(twin=False)


# Rates and policies


def _typed(f: Forged, _: Path) -> None:
    f.claim(-0.01, points=slice(1, None))


def _typed_without_policy(f: Forged, place: Path) -> None:
    _typed(f, place)
    f.policy, f.record["policy_sha256"] = None, None


def _better_policy(f: Forged, place: Path) -> None:
    from banel_envs import success_rate
    from banel_envs.policies import load_policy_file

    (place / "old").write_bytes(f.policy or b"")
    successes = TASKS[TASK].successes()
    assert successes is not None
    mixed = Mixture([load_policy_file(place / "old"), Repeating(successes[0], TASKS[TASK].problem.V)])
    f.use(mixed, place / "new")
    known = np.concatenate([t[r == 1] for t, r in f.asks])
    for name, exclude in (("success", None), ("fresh", known)):
        rate = success_rate(TASKS[TASK], mixed, exclude=exclude)
        f.claim(rate.log10 or -np.inf, name)
        f.record["points"][-1][name]["effective"] = rate.effective


def _other_policy(f: Forged, place: Path) -> None:
    successes = TASKS[TASK].successes()
    assert successes is not None
    f.use(Repeating(successes[0], TASKS[TASK].problem.V), place / "new")


def _filtered(f: Forged, place: Path) -> None:
    """A region whose counted mass is a lie: its policy's rate comes out a thousand times too large."""
    from banel_envs.policies import load_policy_file, save_policy
    from banel_envs.policies.filtered import Filtered

    (place / "old").write_bytes(f.policy or b"")
    policy = load_policy_file(place / "old")
    lying = Filtered(policy, [policy], [-1.0], 1_000_000, 1_100)  # the region holds everything
    save_policy(place / "new", lying)
    f.store((place / "new").read_bytes())
    for point in f.record["points"][-1:]:
        for name in ("success", "fresh"):
            value = point[name]["log10"] + np.log10(1_000_000 / 1_100)
            point[name] |= {"log10": value, "low": value - 0.03, "high": value + 0.03, "method": "filtered"}


def _regions(levels: int, mixed: bool) -> Change:
    """Regions that hold everything and claim a third each, one inside the other, or inside a mixture."""

    def change(f: Forged, place: Path) -> None:
        from banel_envs.policies import Policy, load_policy_file
        from banel_envs.policies.filtered import Filtered

        (place / "old").write_bytes(f.policy or b"")
        policy: Policy = load_policy_file(place / "old")
        for _ in range(levels):
            policy = Filtered(policy, [], [], 3, 1)
        f.use(Mixture([policy]) if mixed else policy, place / "new")
        for name in ("success", "fresh"):
            value = f.record["points"][-1][name]["log10"] + levels * np.log10(3)
            f.record["points"][-1][name] |= {"log10": value, "low": value, "high": value}

    return change


def _beyond(f: Forged, _: Path) -> None:
    f.asks[0][0][0, :] = 15  # 12 tokens take 4 bits


def _weights(edit: Callable[[dict[str, Any]], None]) -> Harm:
    def apply(folder: Path, place: Path) -> None:
        from safetensors import safe_open

        with safe_open(folder / "final.safetensors", "numpy") as file:
            spec = file.metadata()["policy"]
        tensors = load_file(folder / "final.safetensors")
        edit(tensors)
        _store(folder, tensors, spec, place)

    return apply


def _first(tensors: dict[str, Any]) -> str:
    return next(name for name, array in tensors.items() if array.dtype == np.float32 and array.ndim == 2)


def _nan(tensors: dict[str, Any]) -> None:
    tensors[_first(tensors)][:] = np.nan


def _ints(tensors: dict[str, Any]) -> None:
    tensors[_first(tensors)] = tensors[_first(tensors)].astype(np.int32)


def _shape(tensors: dict[str, Any]) -> None:
    tensors[_first(tensors)] = tensors[_first(tensors)][:1]


def _spec(spec: Any) -> Harm:
    return lambda folder, place: _store(folder, load_file(folder / "final.safetensors"), json.dumps(spec), place)


def _deep_mixture(folder: Path, place: Path) -> None:
    inner = '{"kind":"uniform","vocabulary":12,"horizon":8,"end":11}'
    spec = '{"kind":"mixture","members":[' * 50_000 + inner + "]}" * 50_000
    _store(folder, {"none": np.zeros(0)}, spec, place)


def _effective(f: Forged, _: Path) -> None:
    f.record["points"][-1]["success"]["effective"] = 20_000.0


# The package's facts


def _budget(f: Forged, _: Path) -> None:
    f.bind(budget=75_000)


def _off(f: Forged, _: Path) -> None:
    f.bind(budget=8_000)
    f.record["off_board"] = False


def _tuned(f: Forged, _: Path) -> None:
    f.bind(config=f.record["config"] | {"batch": 250})


def _only_seed(new: int) -> Harm:
    """The lucky seed alone: the other one is gone."""

    def apply(folder: Path, place: Path) -> None:
        shutil.rmtree(folder.parent / "seed-1")
        _bind(seed=new)(folder, place)

    return apply


def _copied_seed(folder: Path, place: Path) -> None:
    """The lucky seed once more, as another."""
    forged = Forged.read(folder.parent / "seed-1")
    forged.bind(seed=0)
    forged.write(folder)


def _attested_inside(folder: Path, place: Path) -> None:
    import hashlib

    from banel_leaderboard.records.record import RunRecord

    _sealed(_typed_without_policy)(folder, place)
    record = RunRecord.load(folder / "record.json")
    line = {
        "attestation": 1,
        "record": hashlib.sha256(record.canonical().encode()).hexdigest(),
        "head": record.ledger.head,
        **dict.fromkeys(("run", "package", "kernel", "processor", "instructions"), "x"),
    }
    for where in (folder, folder.parents[4], folder.parents[4] / "attestations"):
        where.mkdir(exist_ok=True)
        (where / "attestations.jsonl").write_text(json.dumps(line) + "\n")


# Files


def _fifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


def _device(path: Path, _: Path) -> None:
    path.symlink_to("/dev/zero")


def _directory(path: Path, _: Path) -> None:
    path.mkdir()


def _link(path: Path, place: Path) -> None:
    """Out of the folder, to a file that would be right."""
    honest = path.parent.parent / "seed-1" / path.name
    shutil.copy(honest, place / path.name)
    path.symlink_to(place / path.name)


def _linked_folder(folder: Path, place: Path) -> None:
    shutil.move(folder, place / "elsewhere")
    folder.symlink_to(place / "elsewhere")


def _duplicate(text: str) -> str:
    return text.replace('"seed": 0', '"seed": 5, "seed": 0', 1)


def _huge_ask(folder: Path, place: Path) -> None:
    from banel_envs.meter import ledger_format

    forged = Forged.read(folder)
    head, content = ledger_format.seal("", ledger_format.header_body(forged.header))
    _, line = ledger_format.seal(head, '{"ask":0,"n":1152921504606846976,"tokens":"AAAA"')
    (folder / "ledger.jsonl").write_bytes(content + line)


BOMB = struct.pack("<Q", 2**40) + b"{}"
NAMED = {
    "script": "<script>alert(1)</script>",
    "right-to-left": "base\u202egpj.exe",
    "link": "[base](javascript:alert(1))",
    "backticks": "`|base|` ![x](http://x)",
    "a megabyte": "b" * 1_000_000,
    "path": "../../../../tmp/base",
    "null": "base\x00",
    "escape sequence": "\x1b[31mbase",
}

# Packed runs


def _untouched(_: Path, __: Path) -> None:
    pass


def _line(change: Callable[[dict[str, Any]], Any]) -> Harm:
    """Fields of the run's line."""
    return lambda part, _: edit_lines(part, change)


def _lines(edit: Callable[[str], str]) -> Harm:
    """The text of all lines."""
    return _text(edit, "records.jsonl")


def _bomb(part: Path, _: Path) -> None:
    """A ledger of 499 MB of zeros, as its line states."""
    size = 499_000_000
    (part / "ledgers-000.xz").write_bytes(lzma.compress(bytes(size), preset=0))
    edit_lines(part, lambda line: line["ledger"].update(packed=size, bytes=size))


def _twice(part: Path, _: Path) -> None:
    path = part / "records.jsonl"
    path.write_text(2 * path.read_text())


PACKED: list[tuple[str, Harm, Harm]] = [
    ("answers invented", _sealed(_invent), _untouched),
    ("rates typed", _sealed(_typed), _untouched),
    ("another policy, its hash in the record", _sealed(_other_policy), _untouched),
    (
        "rates typed into the line",
        _untouched,
        _line(lambda r: r["record"]["points"][-1]["success"].update(log10=-0.01)),
    ),
    ("a bomb", _untouched, _bomb),
    ("a ledger of 2^40 bytes", _untouched, _line(lambda r: r["ledger"].update(bytes=2**40))),
    ("a run outside of the folder", _untouched, _line(lambda r: r.update(run="../../../../evil"))),
    ("a run twice", _untouched, _twice),
    ("a key twice", _untouched, _lines(lambda t: t.replace('"seed":0', '"seed":5,"seed":0', 1))),
    ("a stream that is cut", _untouched, lambda part, _: os.truncate(part / "ledgers-000.xz", 2_000)),
    ("a FIFO", _untouched, _instead(_fifo, "ledgers-000.xz")),
    ("a device", _untouched, _instead(_device, "records.jsonl")),
    ("a module beside it", _untouched, lambda part, _: (part / "evil.py").touch()),
]

FORGERIES = [
    Forgery("run.json: task os:abort", _status(task="os:abort"), harmless=True),
    Forgery("run.json: agent evil:Agent", _status(agent="evil:Agent"), harmless=True),
    Forgery("run.json: oracle file:/", _status(oracle="file:/"), harmless=True),
    Forgery("run.json: inherit a device", _status(inherit="/dev/zero"), harmless=True),
    Forgery("run.json: device evil", _status(device="evil:0")),
    Forgery("record: task os:abort", _named(task="os:abort")),
    Forgery("record: task evil:task", _named(task="evil:task")),
    Forgery("record: agent evil:Agent", _named(agent="evil:Agent")),
    Forgery("record: agent os:abort", _named(agent="os:abort")),
    Forgery("record: agent is a path", _named(agent="board/evil:Agent")),
    Forgery("record: task is a format", _named(task="{0.__class__}/%s-v0")),
    Forgery("record: task is a glob", _named(task="banel/**-v0")),
    Forgery("modules beside you", _shadows, process=True, harmless=True),
    Forgery("policy: kind evil:Agent", _evil_kind),
    Forgery("policy: a pickle", _pickled),
    Forgery("answers: invented", _sealed(_invent)),
    Forgery("answers: one failure told as a success", _sealed(_flip(1))),
    Forgery("answers: one success hidden", _sealed(_flip(0))),
    Forgery("answers: all successes", _sealed(_all(1))),
    Forgery("answers: all failures", _sealed(_all(0)), agent="count", regime="full"),
    Forgery("answers: a twin was told a success", _sealed(_flip(1)), agent="count", regime="twin"),
    Forgery("answers: a twin as a run of its own", _sealed(_as_real), agent="count", regime="twin"),
    Forgery("questions: the known successes", _sealed(_ask_successes)),
    Forgery("regime: full bound as failures", _bind(feedback="failures"), agent="count", regime="full"),
    Forgery("rates: typed", _sealed(_typed)),
    Forgery("rates: typed, no policy", _sealed(_typed_without_policy)),
    Forgery("rates: above 1", _sealed(lambda f, _: f.claim(0.5))),
    Forgery("rates: the best of the curve typed", _sealed(lambda f, _: f.claim(-0.01, points=slice(3, 4)))),
    Forgery("rates: effective number typed", _sealed(_effective)),
    Forgery("rates: NaN", _text(lambda t: t.replace('"log10": -', '"log10": NaN, "x": -', 1))),
    Forgery("rates: Infinity", _text(lambda t: t.replace('"high": -', '"high": Infinity, "high": -', 1))),
    Forgery("policy: another one, its hash in the record", _sealed(_other_policy)),
    Forgery("policy: a better one, its rates in the record", _sealed(_better_policy)),
    Forgery("policy: another one, the old hash", _bytes(b"\x08\0\0\0\0\0\0\0{}      ", "final.safetensors")),
    Forgery("policy: a region with a lying mass", _sealed(_filtered)),
    Forgery("policy: a region of three proposals", _sealed(_regions(1, False))),
    Forgery("policy: regions inside regions", _sealed(_regions(3, False))),
    Forgery("policy: a region inside a mixture", _sealed(_regions(1, True))),
    Forgery("questions: tokens beyond the vocabulary", _sealed(_beyond)),
    Forgery("ledger: inherited answers, not in the record", _sealed(lambda f, _: f.header.update(inherits="a" * 64))),
    Forgery("policy: NaN weights", _weights(_nan)),
    Forgery("policy: whole-number weights", _weights(_ints)),
    Forgery("policy: weights of another shape", _weights(_shape)),
    Forgery("policy: a tensor is missing", _weights(lambda t: t.pop(_first(t)) is None)),  # type: ignore[arg-type,return-value]
    Forgery("policy: header of 2^40 bytes", _bytes(BOMB, "final.safetensors")),
    Forgery("policy: vocabulary 2^40", _spec({"kind": "uniform", "vocabulary": 2**40, "horizon": 8, "end": 11})),
    Forgery("policy: another horizon", _spec({"kind": "uniform", "vocabulary": 12, "horizon": 9, "end": 11})),
    Forgery("policy: horizon 10^9", _spec({"kind": "uniform", "vocabulary": 12, "horizon": 10**9, "end": 11})),
    Forgery("policy: a tree 50,000 deep", _deep_mixture),
    Forgery("policy: temperature 0", _spec({"kind": "tempered", "policy": {"kind": "uniform"}, "temperature": 0})),
    Forgery("package: a budget of its own", _sealed(_budget)),
    Forgery("package: off the board, said to be on it", _sealed(_off)),
    Forgery("package: tuned, said to be default", _sealed(_tuned)),
    Forgery("package: a setting that is none", _bind(config={"batch": 500, "luck": 1}, tuned=True)),
    Forgery("package: the curve at other places", _sealed(lambda f, _: f.record["points"].pop(3))),  # type: ignore[func-returns-value]
    Forgery("package: another vocabulary", _sealed(lambda f, _: f.header.update(vocabulary=13))),
    Forgery("package: another horizon", _sealed(lambda f, _: f.header.update(horizon=4))),
    Forgery("package: another digest", _bind(digest="e" * 64)),
    Forgery("package: another version", _sealed(lambda f, _: f.header.update(version="9.9.9"))),
    Forgery("seeds: the lucky one alone", _only_seed(0)),
    Forgery("seeds: a lucky one of many", _only_seed(4_711)),
    Forgery("seeds: one run under two seeds", _copied_seed),
    Forgery("attestation: inside the folder", _attested_inside),
    Forgery("ledger: cut", _text(lambda t: "".join(t.splitlines(True)[:-2]), "ledger.jsonl")),
    Forgery("ledger: a line twice", _text(lambda t: t + t.splitlines(True)[-1], "ledger.jsonl")),
    Forgery("ledger: a question of 2^60 rows", _huge_ask),
    Forgery("ledger: a FIFO", _instead(_fifo, "ledger.jsonl")),
    Forgery("ledger: a device", _instead(_device, "ledger.jsonl")),
    Forgery("ledger: a link out of the folder", _instead(_link, "ledger.jsonl")),
    Forgery("record: a FIFO", _instead(_fifo, "record.json")),
    Forgery("record: a device", _instead(_device, "record.json")),
    Forgery("record: a directory", _instead(_directory, "record.json")),
    Forgery("record: a link out of the folder", _instead(_link, "record.json")),
    Forgery("policy: a FIFO", _instead(_fifo, "final.safetensors")),
    Forgery("policy: a device", _instead(_device, "final.safetensors")),
    Forgery("run.json: a FIFO", _instead(_fifo, "run.json"), harmless=True),
    Forgery("folder: a link", _linked_folder),
    Forgery("record: duplicate keys", _text(_duplicate)),
    Forgery("record: 10^6 deep", _bytes(b'{"a":' * 1_000_000, "record.json")),
    Forgery(
        "record: a number of 10^6 digits", _text(lambda t: t.replace('"seed": 0', '"seed": ' + "9" * 1_000_000, 1))
    ),
    Forgery("record: not UTF-8", _bytes(b"\xff\xfe\x00", "record.json")),
    Forgery("record: empty", _bytes(b"", "record.json")),
    Forgery("record: 100 MB", _bytes(b" " * 100_000_000, "record.json")),
    *(Forgery(f"packed: {what}", before, packed=after) for what, before, after in PACKED),
    *(Forgery(f"name: {what}", _bind(agent=name)) for what, name in NAMED.items()),
]
