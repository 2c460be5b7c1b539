"""The forgeries of `python -m benchmarks.forgeries`: each says what a liar changes in one run of an honest board."""

from __future__ import annotations

import os
import struct

from benchmarks.forgeries.answers import answer_all, ask_successes, flip, invent, twin_as_real
from benchmarks.forgeries.change import Forgery, Harm, bind, edit_text, instead, put_bytes, sealed
from benchmarks.forgeries.code import record_names_code, shadow_modules, status_names_code
from benchmarks.forgeries.facts import (
    attested_inside,
    copied_seed,
    off_the_board,
    only_seed,
    other_budget,
    other_settings,
)
from benchmarks.forgeries.files import (
    bomb,
    device,
    directory,
    duplicate_key,
    edit_line,
    edit_text_of_lines,
    fifo,
    huge_ask,
    link,
    linked_folder,
    run_twice,
    untouched,
)
from benchmarks.forgeries.policies import (
    better_policy,
    beyond_vocabulary,
    deep_mixture,
    edit_weights,
    first_matrix,
    kind_names_code,
    lying_region,
    nan_weights,
    nested_regions,
    other_policy,
    other_shape,
    other_structure,
    pickled,
    type_effective,
    type_rates,
    type_rates_without_policy,
    type_unasked,
    whole_numbers,
)

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

PACKED: list[tuple[str, Harm, Harm]] = [
    ("answers invented", sealed(invent), untouched),
    ("rates typed", sealed(type_rates), untouched),
    ("another policy, its hash in the record", sealed(other_policy), untouched),
    (
        "rates typed into the line",
        untouched,
        edit_line(lambda r: r["record"]["points"][-1]["success"].update(log10=-0.01)),
    ),
    ("a bomb", untouched, bomb),
    ("a ledger of 2^40 bytes", untouched, edit_line(lambda r: r["ledger"].update(bytes=2**40))),
    ("a run outside of the folder", untouched, edit_line(lambda r: r.update(run="../../../../evil"))),
    ("a run twice", untouched, run_twice),
    ("a key twice", untouched, edit_text_of_lines(lambda t: t.replace('"seed":0', '"seed":5,"seed":0', 1))),
    ("a stream that is cut", untouched, lambda part, _: os.truncate(part / "ledgers-000.xz", 2_000)),
    ("a FIFO", untouched, instead(fifo, "ledgers-000.xz")),
    ("a device", untouched, instead(device, "records.jsonl")),
    ("a module beside it", untouched, lambda part, _: (part / "evil.py").touch()),
]

FORGERIES = [
    Forgery("run.json: task os:abort", status_names_code(task="os:abort"), harmless=True),
    Forgery("run.json: agent evil:Agent", status_names_code(agent="evil:Agent"), harmless=True),
    Forgery("run.json: oracle file:/", status_names_code(oracle="file:/"), harmless=True),
    Forgery("run.json: inherit a device", status_names_code(inherit="/dev/zero"), harmless=True),
    Forgery("run.json: device evil", status_names_code(device="evil:0")),
    Forgery("record: task os:abort", record_names_code(task="os:abort")),
    Forgery("record: task evil:task", record_names_code(task="evil:task")),
    Forgery("record: agent evil:Agent", record_names_code(agent="evil:Agent")),
    Forgery("record: agent os:abort", record_names_code(agent="os:abort")),
    Forgery("record: agent is a path", record_names_code(agent="board/evil:Agent")),
    Forgery("record: task is a format", record_names_code(task="{0.__class__}/%s-v0")),
    Forgery("record: task is a glob", record_names_code(task="banel/**-v0")),
    Forgery("modules beside you", shadow_modules, process=True, harmless=True),
    Forgery("policy: kind evil:Agent", kind_names_code),
    Forgery("policy: a pickle", pickled),
    Forgery("answers: invented", sealed(invent)),
    Forgery("answers: one failure told as a success", sealed(flip(1))),
    Forgery("answers: one success hidden", sealed(flip(0))),
    Forgery("answers: all successes", sealed(answer_all(1))),
    Forgery("answers: all failures", sealed(answer_all(0)), agent="count", regime="full"),
    Forgery("answers: a twin was told a success", sealed(flip(1)), agent="count", regime="twin"),
    Forgery("answers: a twin as a run of its own", sealed(twin_as_real), agent="count", regime="twin"),
    Forgery("questions: the known successes", sealed(ask_successes)),
    Forgery("regime: full bound as failures", bind(feedback="failures"), agent="count", regime="full"),
    Forgery("regime: failures bound as typed", bind(feedback="typed")),
    Forgery("rates: typed", sealed(type_rates)),
    Forgery("rates: typed, no policy", sealed(type_rates_without_policy)),
    Forgery("rates: above 1", sealed(lambda f, _: f.claim(0.5))),
    Forgery("rates: the best of the curve typed", sealed(lambda f, _: f.claim(-0.01, points=slice(3, 4)))),
    Forgery("rates: effective number typed", sealed(type_effective)),
    Forgery("rates: unasked mass typed", sealed(type_unasked)),
    Forgery("rates: NaN", edit_text(lambda t: t.replace('"log10": -', '"log10": NaN, "x": -', 1))),
    Forgery("rates: Infinity", edit_text(lambda t: t.replace('"high": -', '"high": Infinity, "high": -', 1))),
    Forgery("policy: another one, its hash in the record", sealed(other_policy)),
    Forgery("policy: a better one, its rates in the record", sealed(better_policy)),
    Forgery("policy: another one, the old hash", put_bytes(b"\x08\0\0\0\0\0\0\0{}      ", "final.safetensors")),
    Forgery("policy: a region with a lying mass", sealed(lying_region)),
    Forgery("policy: a region of three proposals", sealed(nested_regions(1, False))),
    Forgery("policy: regions inside regions", sealed(nested_regions(3, False))),
    Forgery("policy: a region inside a mixture", sealed(nested_regions(1, True))),
    Forgery("questions: tokens beyond the vocabulary", sealed(beyond_vocabulary)),
    Forgery("ledger: inherited answers, not in the record", sealed(lambda f, _: f.header.update(inherits="a" * 64))),
    Forgery("policy: NaN weights", edit_weights(nan_weights)),
    Forgery("policy: whole-number weights", edit_weights(whole_numbers)),
    Forgery("policy: weights of another shape", edit_weights(other_shape)),
    Forgery("policy: a tensor is missing", edit_weights(lambda t: t.pop(first_matrix(t)) is None)),  # type: ignore[arg-type]
    Forgery("policy: header of 2^40 bytes", put_bytes(BOMB, "final.safetensors")),
    Forgery(
        "policy: vocabulary 2^40", other_structure({"kind": "uniform", "vocabulary": 2**40, "horizon": 8, "end": 11})
    ),
    Forgery("policy: another horizon", other_structure({"kind": "uniform", "vocabulary": 12, "horizon": 9, "end": 11})),
    Forgery(
        "policy: horizon 10^9", other_structure({"kind": "uniform", "vocabulary": 12, "horizon": 10**9, "end": 11})
    ),
    Forgery("policy: a tree 50,000 deep", deep_mixture),
    Forgery(
        "policy: temperature 0", other_structure({"kind": "tempered", "policy": {"kind": "uniform"}, "temperature": 0})
    ),
    Forgery("package: a budget of its own", sealed(other_budget)),
    Forgery("package: off the board, said to be on it", sealed(off_the_board)),
    Forgery("package: tuned, said to be default", sealed(other_settings)),
    Forgery("package: a setting that is none", bind(config={"batch": 500, "luck": 1}, tuned=True)),
    Forgery("package: the curve at other places", sealed(lambda f, _: f.record["points"].pop(3))),
    Forgery("package: another vocabulary", sealed(lambda f, _: f.header.update(vocabulary=13))),
    Forgery("package: another horizon", sealed(lambda f, _: f.header.update(horizon=4))),
    Forgery("package: another digest", bind(digest="e" * 64)),
    Forgery("package: another version", sealed(lambda f, _: f.header.update(version="9.9.9"))),
    Forgery("seeds: the lucky one alone", only_seed(0)),
    Forgery("seeds: a lucky one of many", only_seed(4_711)),
    Forgery("seeds: one run under two seeds", copied_seed),
    Forgery("attestation: inside the folder", attested_inside),
    Forgery("ledger: cut", edit_text(lambda t: "".join(t.splitlines(True)[:-2]), "ledger.jsonl")),
    Forgery("ledger: a line twice", edit_text(lambda t: t + t.splitlines(True)[-1], "ledger.jsonl")),
    Forgery("ledger: a question of 2^60 rows", huge_ask),
    Forgery("ledger: a FIFO", instead(fifo, "ledger.jsonl")),
    Forgery("ledger: a device", instead(device, "ledger.jsonl")),
    Forgery("ledger: a link out of the folder", instead(link, "ledger.jsonl")),
    Forgery("record: a FIFO", instead(fifo, "record.json")),
    Forgery("record: a device", instead(device, "record.json")),
    Forgery("record: a directory", instead(directory, "record.json")),
    Forgery("record: a link out of the folder", instead(link, "record.json")),
    Forgery("policy: a FIFO", instead(fifo, "final.safetensors")),
    Forgery("policy: a device", instead(device, "final.safetensors")),
    Forgery("run.json: a FIFO", instead(fifo, "run.json"), harmless=True),
    Forgery("folder: a link", linked_folder),
    Forgery("record: duplicate keys", edit_text(duplicate_key)),
    Forgery("record: 10^6 deep", put_bytes(b'{"a":' * 1_000_000, "record.json")),
    Forgery(
        "record: a number of 10^6 digits", edit_text(lambda t: t.replace('"seed": 0', '"seed": ' + "9" * 1_000_000, 1))
    ),
    Forgery("record: not UTF-8", put_bytes(b"\xff\xfe\x00", "record.json")),
    Forgery("record: empty", put_bytes(b"", "record.json")),
    Forgery("record: 100 MB", put_bytes(b" " * 100_000_000, "record.json")),
    *(Forgery(f"packed: {what}", before, packed=after) for what, before, after in PACKED),
    *(Forgery(f"name: {what}", bind(agent=name)) for what, name in NAMED.items()),
]
