"""Stored policies that somebody made: whatever they claim, they are read, or refused quickly and in little memory."""

from __future__ import annotations

import copy
import functools
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_envs.assets import FOLDER
from banel_envs.errors import AssetError, BadPolicy, BadValue
from banel_envs.policies import Excluding, Masked, Mixture, Policy, Repeating, Tempered, Uniform, UniformGrammar
from banel_envs.policies import load_policy_file as load
from banel_envs.policies.composed.filtered import MOST_AT_ONCE, Filtered
from banel_envs.policies.composed.guided import Guided
from banel_envs.policies.networks.gru import GRU, GRUConfig
from banel_envs.policies.networks.markov_transformer import chained_policy
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.storage import checks, container
from banel_envs.policies.storage.store import save_policy, sizes
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.problem import Problem
from banel_leaderboard.records.run_folder import load_policy
from tests.shared.hostile import changed, within

V, T = 5, 4
Arrays = dict[str, np.ndarray[Any, Any]]


def network(end: int | None = None) -> TorchPolicy:
    made = Transformer(TransformerConfig(V, T, width=8, layers=2, heads=2))
    made.initialise(np.random.default_rng(0))
    return TorchPolicy(made.eval(), end)


def gru() -> TorchPolicy:
    made = GRU(GRUConfig(V, T, width=6, layers=2))
    made.initialise(np.random.default_rng(0))
    return TorchPolicy(made.eval(), None)


def chained() -> TorchPolicy:
    chain = np.full((V, V), 1 / V)
    return chained_policy(chain[0], chain, T, np.random.default_rng(0), width=8, layers=1, heads=1)


SEQUENCES = np.array([[0, 1, 2, 3], [4, 4, 4, 4]])
TABLE = np.array([[0, 1, 1, 1, 0], [0, -1, 1, 1, 1]])
HONEST: dict[str, Callable[[], Policy]] = {
    "network": network,
    "gru": gru,
    "chained": chained,
    "uniform": lambda: Uniform(V, T, None),
    "repeating": lambda: Repeating(SEQUENCES[0], V),
    "tempered": lambda: Tempered(network(), 1.5),
    "excluding": lambda: Excluding(network(), SEQUENCES),
    "grammar": lambda: UniformGrammar(TABLE, T, None),
    "masked": lambda: Masked(network(), TABLE),
    "guided": lambda: Guided(network(), gru(), 2.0),
    "mixture": lambda: Mixture([network(), Excluding(Uniform(V, T, None), SEQUENCES), Repeating(SEQUENCES[1], V)]),
    "filtered": lambda: Filtered(network(), [gru(), Uniform(V, T, None)], [-1.0, 0.5], 1_000, 900),
}


def parts(kind: str) -> tuple[Any, Arrays]:
    """What an honest policy is stored as: structure and arrays, to be changed."""
    spec, arrays = _parts(kind)
    return copy.deepcopy(spec), dict(arrays)


@functools.cache
def _parts(kind: str) -> tuple[Any, Arrays]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p"
        save_policy(path, HONEST[kind]())
        return container.split(path.read_bytes())


def put(path: Path, spec: Any, arrays: Arrays) -> Path:
    safetensors.numpy.save_file(arrays or {"none": np.zeros(0)}, path, metadata={"policy": json.dumps(spec)})
    return path


def raw(header: Any, body: bytes = b"", size: int | None = None) -> bytes:
    """A file of any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + body


@functools.cache
def load_once() -> None:
    """The first policy that is loaded brings modules with it, whose memory is no hostile file's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p"
        save_policy(path, network())
        load(path)


def refused(path: Path, says: str, megabytes: float | None = 4.0) -> None:
    load_once()
    with within(15, megabytes), pytest.raises(AssetError, match=says) as raised:
        load(path)
    assert len(str(raised.value)) < 700 + len(str(path))


@pytest.mark.parametrize("kind", HONEST)
def test_an_honest_policy_comes_back(kind: str, tmp_path: Path) -> None:
    policy = HONEST[kind]()
    save_policy(tmp_path / "p", policy)
    (tmp_path / "q").hardlink_to(tmp_path / "p")
    again = load(tmp_path / "q", below=tmp_path)
    assert np.array_equal(again.log_prob(SEQUENCES), policy.log_prob(SEQUENCES))
    assert sizes(again)[:2] == (V, T)


def test_every_shipped_policy_is_read_with_the_same_weights() -> None:
    files = sorted(FOLDER.glob("*.safetensors"))
    assert files
    for path in files:
        _, arrays = container.split(path.read_bytes())
        wanted = safetensors.numpy.load_file(path)
        assert arrays.keys() == wanted.keys()
        assert all(arrays[name].dtype == a.dtype and np.array_equal(arrays[name], a) for name, a in wanted.items())
        load(path)


# The container

META = {"__metadata__": {"policy": json.dumps({"kind": "repeating", "vocabulary": V})}}
TOKENS = {"dtype": "I64", "shape": [T], "data_offsets": [0, 8 * T]}
ZEROS = bytes(8 * T)


def test_what_the_files_below_are_made_from_is_read(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(raw({**META, "tokens": TOKENS}, ZEROS))
    assert isinstance(load(tmp_path / "p"), Repeating)


CONTAINERS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "it has 0 bytes and claims a header of 0"),
    "seven bytes": (b"\x00" * 7, "it has 7 bytes"),
    "header of 2^40": (raw(b"{}", size=2**40), "claims a header of 1,099,511,627,776"),
    "header of 2^64 - 1": (raw(b"{}", size=2**64 - 1), "claims a header of"),
    "header of 5 MB": (raw(b" " * 5_000_000), "its header has 5,000,000 bytes"),
    "header cut": (raw(b'{"a": '), "Expecting value"),
    "header a list": (raw([]), "its header is not a table"),
    "header deep": (raw(b"[" * 100_000), "nested more than 64"),
    "key twice": (raw(b'{"a": {}, "a": {}}'), "stands there twice"),
    "no metadata": (raw({"tokens": TOKENS}, ZEROS), "its metadata is not one policy"),
    "metadata a list": (raw({"__metadata__": ["policy"], "tokens": TOKENS}, ZEROS), "its metadata is not one policy"),
    "metadata more": (raw({"__metadata__": {**META["__metadata__"], "x": "y"}}), "its metadata is not one policy"),
    "metadata no text": (raw({"__metadata__": {"policy": {}}}), "its metadata is not one policy"),
    "structure no JSON": (raw({"__metadata__": {"policy": "{"}}), "Expecting property name"),
    "structure deep": (raw({"__metadata__": {"policy": "[" * 100_000}}), "nested more than 64"),
    "structure twice": (raw({"__metadata__": {"policy": '{"kind": 1, "kind": 2}'}}), "stands there twice"),
    "truncated": (raw({**META, "tokens": TOKENS}, ZEROS[:-1]), "claims bytes 0 to 32; 0 of 31"),
    "bytes behind": (raw({**META, "tokens": TOKENS}, ZEROS + b"x"), "1 bytes belong to no array"),
    "a gap": (raw({**META, "tokens": {**TOKENS, "data_offsets": [8, 40]}}, ZEROS + ZEROS), "claims bytes 8 to 40; 0 of"),
    "overlapping": (raw({**META, "tokens": TOKENS, "x": {**TOKENS, "data_offsets": [16, 48]}}, ZEROS * 2), "claims bytes 16"),
    "the same bytes": (raw({**META, "tokens": TOKENS, "x": TOKENS}, ZEROS), "claims bytes 0 to 32; 32 of 32"),
    "backwards": (raw({**META, "tokens": {**TOKENS, "data_offsets": [32, 0]}}, ZEROS), "claims bytes 32 to 0"),
    "negative": (raw({**META, "tokens": {**TOKENS, "data_offsets": [-32, 0]}}, ZEROS), "has the shape"),
    "offsets of text": (raw({**META, "tokens": {**TOKENS, "data_offsets": ["0", "32"]}}, ZEROS), "has the shape"),
    "three offsets": (raw({**META, "tokens": {**TOKENS, "data_offsets": [0, 32, 32]}}, ZEROS), "has the type"),
    "shape of 2^60": (raw({**META, "tokens": {**TOKENS, "shape": [2**60]}}, ZEROS), "has the shape"),
    "shape of 2^47": (raw({**META, "tokens": {**TOKENS, "shape": [2**47]}}, ZEROS), r"claims the shape \[1407\d+\] in 32"),
    "shape of 10^3000": (raw({**META, "tokens": {**TOKENS, "shape": [10**3_000]}}, ZEROS), "has the shape"),
    "shape true": (raw({**META, "tokens": {**TOKENS, "shape": [True]}}, ZEROS), "has the shape"),
    "100 axes": (raw({**META, "tokens": {**TOKENS, "shape": [1] * 99 + [4]}}, ZEROS), "has the shape"),
    "none by 2^47": (raw({**META, "tokens": {**TOKENS, "shape": [0, 2**47], "data_offsets": [0, 0]}}), "int64 with 1 axes"),
    "bool": (raw({**META, "tokens": {"dtype": "BOOL", "shape": [4], "data_offsets": [0, 4]}}, bytes(4)), "of the type 'BOOL'"),
    "F8": (raw({**META, "tokens": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}, bytes(4)), "of the type 'F8"),
    "dtype a list": (raw({**META, "tokens": {**TOKENS, "dtype": ["I64"]}}, ZEROS), "has the type"),
    "an array a number": (raw({**META, "tokens": 7}, ZEROS), "is not described by"),
    "an array's extra": (raw({**META, "tokens": {**TOKENS, "x": 1}}, ZEROS), "is not described by"),
    "pickle": (b"\x80\x04cos\nsystem\n(S'true'\ntR.", "bytes and claims a header of"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_file_that_is_no_container_is_refused(kind: str, tmp_path: Path) -> None:
    content, says = CONTAINERS[kind]
    (tmp_path / "p").write_bytes(content)
    refused(tmp_path / "p", f"is not a stored policy: .*{says}", megabytes=4 + 10 * len(content) / 1e6)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["repeating", "excluding"]))
def test_what_is_read_is_what_safetensors_reads(data: Any, kind: str) -> None:
    """A file with changed bytes or a changed header is refused, or both readers see the same arrays in it."""
    spec, arrays = parts(kind)
    content = safetensors.numpy.save(arrays, metadata={"policy": json.dumps(spec)})
    size = int.from_bytes(content[:8], "little")
    if data.draw(st.booleans()):
        content = raw(changed(data, json.loads(content[8 : 8 + size])), content[8 + size :])
    else:
        at = data.draw(st.integers(0, min(len(content), size + 40)))
        content = content[:at] + data.draw(st.binary(max_size=3)) + content[at + data.draw(st.integers(0, 3)) :]
    try:
        _, mine = container.split(content)
    except ValueError:
        return
    theirs = safetensors.numpy.load(content)
    assert mine.keys() == theirs.keys()
    assert all(
        mine[name].tobytes() == theirs[name].tobytes() and mine[name].shape == theirs[name].shape for name in mine
    )


# The structure and the arrays


def config(**sizes: Any) -> Callable[[Any, Arrays], None]:
    return lambda spec, arrays: spec["config"].update(sizes)


def top(**fields: Any) -> Callable[[Any, Arrays], None]:
    return lambda spec, arrays: spec.update(fields)


def weight(name: str, change: Callable[[np.ndarray[Any, Any]], Any]) -> Callable[[Any, Arrays], None]:
    return lambda spec, arrays: arrays.update({name: np.ascontiguousarray(change(arrays[name].copy()))})


def each(change: Callable[[np.ndarray[Any, Any]], Any]) -> Callable[[Any, Arrays], None]:
    return lambda spec, arrays: arrays.update({name: change(a) for name, a in arrays.items()})


def poked(value: float) -> Callable[[np.ndarray[Any, Any]], Any]:
    def poke(array: np.ndarray[Any, Any]) -> Any:
        array.flat[-1] = value
        return array

    return poke


UNIFORM = {"kind": "uniform", "vocabulary": V, "horizon": T, "end": None}
STRUCTURES: list[tuple[str, Callable[[Any, Arrays], None], str]] = [
    ("network", config(vocabulary=2**40), "vocabulary is 1099511627776; it is a whole number from 1 to"),
    ("network", config(vocabulary=2**70), "vocabulary is"),
    ("network", config(horizon=10**9), "horizon is"),
    ("network", config(width=0), "width is 0"),
    ("network", config(width=-8), "width is -8"),
    ("network", config(width=8.0), r"width is 8\.0"),
    ("network", config(width=True), "width is True"),
    ("network", config(width="8"), "width is '8'"),
    ("network", config(layers=10**6), "layers is 1000000; it is a whole number from 1 to 7"),
    ("network", config(layers=3), "the set of weights lacks"),
    ("network", config(heads=0), "heads is 0"),
    ("network", config(heads=3), "it is a multiple of the 3 heads"),
    ("network", config(vocabulary=V + 1), r"token.weight is float32 \[6, 8\]; it is float32 \[7, 8\]"),
    ("network", config(device="cuda"), "config has the key 'device'"),
    ("network", top(config=[8]), r"config is \[8\], not a table"),
    ("network", lambda spec, arrays: spec["config"].pop("heads"), "config lacks 'heads'"),
    ("network", top(code="os.system"), "the structure has the key 'code'"),
    ("network", top(end=V), "end is 5; it is a whole number from 0 to 4"),
    ("network", top(end=-1), "end is -1"),
    ("network", top(end=True), "end is True"),
    ("network", top(temperature=0), "temperature is 0; it is a number from 1e-100"),
    ("network", top(temperature=1e-320), "temperature is 1e-320"),
    ("network", top(temperature=-1.0), "temperature is -1.0"),
    ("network", top(temperature=1e200), "temperature is 1e"),
    ("network", top(temperature="1"), "temperature is '1'"),
    ("network", top(temperature=10**400), "temperature is 1000"),
    ("network", top(kind="os:system"), "a policy of the kind 'os:system' is not known"),
    ("network", top(kind="\u202ex" * 90), "a policy of the kind '"),
    ("network", top(kind=["transformer"]), "is not known"),
    ("network", top(kind="gru"), "config has the key 'heads'"),
    ("network", weight("head.weight", poked(math.nan)), "head.weight has 1 numbers that are NaN or infinite"),
    ("network", weight("head.bias", poked(math.inf)), "head.bias has 1 numbers that are NaN or infinite"),
    ("network", weight("head.bias", lambda a: a.astype(np.int64)), "head.bias is int64"),
    ("network", weight("head.bias", lambda a: a.astype(np.float64)), "head.bias is float64"),
    ("network", weight("head.bias", lambda a: a.astype(bool)), "of the type 'BOOL'"),
    ("network", weight("head.bias", lambda a: a.astype(np.float16)), "of the type 'F16'"),
    ("network", each(lambda a: a.astype(np.float64)), "is float64"),
    ("network", weight("head.weight", lambda a: a.T), "head.weight is float32"),
    ("network", weight("head.bias", lambda a: a[None]), "head.bias is float32"),
    ("network", lambda spec, arrays: arrays.pop("head.bias"), "the set of weights lacks 'head.bias'"),
    ("network", lambda spec, arrays: arrays.update(extra=np.zeros(1, np.float32)), "the set of weights has the key 'extra'"),
    ("network", lambda spec, arrays: arrays.clear(), "vocabulary is 5; it is a whole number from 1 to 0"),
    ("gru", config(layers=10**6), "layers is 1000000"),
    ("gru", weight("cell.weight_ih_l0", poked(math.nan)), "NaN"),
    ("chained", weight("chain", poked(math.nan)), "chain has 1 numbers that are NaN"),
    ("uniform", top(vocabulary=2**40), "vocabulary is"),
    ("uniform", top(vocabulary=0), "vocabulary is 0"),
    ("uniform", top(horizon=2**40), "horizon is"),
    ("uniform", top(horizon=0), "horizon is 0"),
    ("uniform", top(end=7), "end is 7"),
    ("uniform", lambda spec, arrays: arrays.update(x=np.zeros(3)), "2 arrays belong to no part of it, the first is 'none'"),
    ("uniform", lambda spec, arrays: arrays.update(none=np.zeros(3)), "1 arrays belong to no part of it"),
    ("repeating", top(vocabulary=3), r"tokens has tokens 0..3; they lie in 0..2"),
    ("repeating", top(vocabulary=2**50), "vocabulary is"),
    ("repeating", weight("tokens", lambda a: a - 1), "tokens has tokens -1..2"),
    ("repeating", weight("tokens", lambda a: a.astype(np.float32)), "tokens has float32"),
    ("repeating", weight("tokens", lambda a: a[None]), "it is int64 with 1 axes"),
    ("repeating", weight("tokens", lambda a: a[:0]), "sequences of 0 tokens"),
    ("tempered", top(temperature=0), "temperature is 0"),
    ("tempered", top(temperature=1e-320), "temperature is 1e-320"),
    ("tempered", top(policy={"kind": "mixture", "members": [UNIFORM]}), "a Mixture has no temperature"),
    ("tempered", top(policy=UNIFORM), "arrays belong to no part of it"),
    ("tempered", top(policy=7), "a policy of the kind None is not known"),
    ("excluding", weight("excluded", lambda a: a + 1), "excluded has tokens 1..5; they lie in 0..4"),
    ("excluding", weight("excluded", lambda a: a[:, :3]), r"the last of 4"),
    ("excluding", weight("excluded", lambda a: a[0]), "it is int64 with 2 axes"),
    ("excluding", weight("excluded", lambda a: a.astype(np.float64)), "excluded has float64"),
    ("excluding", weight("excluded", lambda a: np.repeat(a, 2, axis=0)), "are repeats"),
    ("excluding", lambda spec, arrays: arrays.pop("excluded"), "the array 'excluded' is missing"),
    ("excluding", lambda spec, arrays: arrays.update(excluded2=arrays.pop("excluded")), "the array 'excluded' is missing"),
    ("grammar", top(horizon=10**6), "horizon is 1000000"),
    ("grammar", top(end=V), "end is 5"),
    ("grammar", weight("following", lambda a: a + 1), r"following has states 0..2; they lie in -1..1"),
    ("grammar", weight("following", lambda a: a - 1), r"following has states -2..0"),
    ("grammar", weight("following", lambda a: a[0]), r"following has int64 \[5\]; it is int64 \[states, vocabulary\]"),
    ("grammar", weight("following", lambda a: a[:0]), "following has int64"),
    ("grammar", weight("following", lambda a: a.astype(np.float64)), "following has float64"),
    ("grammar", weight("following", lambda a: a * 0 - 1), "has no well-formed sequence of 4 tokens"),
    (
        "grammar",
        lambda spec, arrays: (top(horizon=8_192)(spec, arrays), arrays.update(following=np.zeros((9_000, V), np.int64))),
        "its sequences are counted up to",
    ),
    ("masked", weight("following", lambda a: a[:, :4].clip(0)), "both must have the same vocabulary"),
    ("masked", lambda spec, arrays: arrays.pop("following"), "the array 'following' is missing"),
    ("masked", top(policy={"kind": "mixture", "members": [UNIFORM]}), "a Mixture gives no next-token distribution to mask"),
    ("guided", top(strength=-1), "strength is -1; it is a number from 0 to"),
    ("guided", top(strength=1e9), r"strength is 1000000000\.0"),
    ("guided", top(strength="x"), "strength is 'x'"),
    ("guided", top(against={**UNIFORM, "horizon": 9}), "its parts differ"),
    ("guided", top(against={"kind": "mixture", "members": [UNIFORM]}), "a Mixture gives no next-token distribution to guide"),
    ("mixture", top(members=[]), "a mixture needs at least 1 member"),
    ("mixture", top(members={"a": 1}), "a list of policies is"),
    ("mixture", top(members=[UNIFORM] * 1_001), "made of more than 1,000 policies"),
    ("mixture", lambda spec, arrays: spec["members"].append({**UNIFORM, "horizon": T + 1}), "its parts differ"),
    ("mixture", lambda spec, arrays: spec["members"].append({**UNIFORM, "vocabulary": V + 1}), "its parts differ"),
    ("mixture", lambda spec, arrays: spec["members"].append({**UNIFORM, "end": 2}), "its parts differ"),
    ("filtered", top(log_taus=[0.0]), "it has a number for each of 2 models"),
    ("filtered", top(log_taus=[0.0, "x"]), "log_tau is 'x'"),
    ("filtered", top(log_taus=[0.0, 10**400]), "log_tau is 1000"),
    ("filtered", top(accepted=0), "accepted is 0"),
    ("filtered", top(accepted=1, proposed=10_000), "fewer than 0.001"),
    ("filtered", top(accepted=1_001), "accepted is 1001; it is a whole number from 1 to 1,000"),
    ("filtered", top(proposed=0), "proposed is 0"),
    ("filtered", top(proposed=10**400), "proposed is 1000"),
    ("filtered", top(accepted=900.0), r"accepted is 900\.0"),
    ("filtered", lambda spec, arrays: spec["models"].append({**UNIFORM, "horizon": 9}), "its parts differ"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "change", "says"), STRUCTURES, ids=[f"{k}: {s}"[:60] for k, _, s in STRUCTURES])
def test_a_policy_that_is_none_is_refused(
    kind: str, change: Callable[[Any, Arrays], None], says: str, tmp_path: Path
) -> None:
    spec, arrays = parts(kind)
    arrays = dict(arrays)
    change(spec, arrays)
    refused(put(tmp_path / "p", spec, arrays), says)


def nested(depth: int, kind: str) -> str:
    inner = json.dumps(UNIFORM)
    if kind == "mixture":
        return '{"kind":"mixture","members":[' * depth + inner + "]}" * depth
    return '{"kind":"tempered","temperature":1,"policy":' * depth + inner + "}" * depth


@pytest.mark.parametrize("kind", ["mixture", "tempered"])
@pytest.mark.parametrize("depth", [70, 400, 60_000])
def test_policies_in_policies_without_end_are_refused(kind: str, depth: int, tmp_path: Path) -> None:
    content = raw(
        {
            "__metadata__": {"policy": nested(depth, kind)},
            "none": {"dtype": "F64", "shape": [0], "data_offsets": [0, 0]},
        }
    )
    (tmp_path / "p").write_bytes(content)
    refused(tmp_path / "p", "nested more than 64|at most 4,194,304 are read", megabytes=50)


def test_a_few_policies_in_policies_are_read(tmp_path: Path) -> None:
    policy: Policy = Uniform(V, T, None)
    for _ in range(10):
        policy = Mixture([policy, Uniform(V, T, None)])
    save_policy(tmp_path / "p", policy)
    assert np.array_equal(load(tmp_path / "p").log_prob(SEQUENCES), policy.log_prob(SEQUENCES))


@pytest.mark.parametrize(
    ("vocabulary", "horizon", "rows", "members", "says"),
    [
        (2**20, 2, 16_384, 1, "137,438,953,472 bytes a position"),
        (2**20, 2, 1_025, 1, "8,598,323,200 bytes a position"),
        (5, 2**13, 1, 100, "827,392 steps"),
        (5, 2**13, 4, 1, ""),
        (2**20, 2, 4, 2, ""),
    ],
)
def test_weighing_what_is_excluded_is_bounded(
    vocabulary: int, horizon: int, rows: int, members: int, says: str, tmp_path: Path
) -> None:
    """A uniform policy has no array of its size: a small file could ask for 137 GB of probabilities."""
    excluded = np.zeros((rows, horizon), np.int64)
    excluded[:, -1] = np.arange(rows) % vocabulary
    inner = {**UNIFORM, "vocabulary": vocabulary, "horizon": horizon}
    spec = {"kind": "excluding", "policy": {"kind": "mixture", "members": [inner] * members}}
    path = put(tmp_path / "p", spec, {"excluded": excluded})
    if says:
        refused(path, says)
    else:
        with within(20, megabytes=300):
            load(path)


def test_many_rows_times_many_parts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, arrays = parts("excluding")
    monkeypatch.setattr(checks, "MOST_SCORED", 1)
    refused(put(tmp_path / "p", spec, arrays), "2 sequences are excluded; to weigh them takes 2 scores")


def test_many_names_do_not_take_long(tmp_path: Path) -> None:
    """40,000 arrays of no number, and a thousand parts that look for theirs."""
    header: dict[str, Any] = {f"{k}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for k in range(40_000)}
    members = [{"kind": "repeating", "vocabulary": 5}] * 999
    for k in range(999):
        header[f"{k}.tokens"] = {"dtype": "I64", "shape": [1], "data_offsets": [8 * k, 8 * k + 8]}
    header["__metadata__"] = {"policy": json.dumps({"kind": "mixture", "members": members})}
    (tmp_path / "p").write_bytes(raw(header, bytes(8 * 999)))
    refused(tmp_path / "p", "40000 arrays belong to no part", megabytes=None)


@settings(max_examples=250, deadline=None)
@given(data=st.data(), kind=st.sampled_from(list(HONEST)))
def test_a_changed_policy_is_refused_or_read(data: Any, kind: str) -> None:
    """Nothing but AssetError is raised, whatever its structure says."""
    spec, arrays = parts(kind)
    spec = changed(data, spec)
    if not isinstance(spec, dict | list):
        return
    with tempfile.TemporaryDirectory() as folder, within(20):
        try:
            policy = load(put(Path(folder) / "p", spec, dict(arrays)))
        except AssetError:
            return
        vocabulary, horizon, _ = sizes(policy)
        assert vocabulary >= 1 and horizon >= 1


def test_weights_that_are_not_finite_can_be_let_in_to_be_measured(tmp_path: Path) -> None:
    """What an agent in another process yields is judged where it is measured, with the agent's name."""
    policy = network()
    with torch.no_grad():
        policy.network.head.bias[0] = math.nan
    save_policy(tmp_path / "p", policy)
    refused(tmp_path / "p", "head.bias has 1 numbers that are NaN")
    assert np.isnan(load(tmp_path / "p", finite=False).network.head.bias[0].item())  # type: ignore[attr-defined]


def test_another_precision_has_no_stored_form(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=r"is float64 cannot be stored; weights are float32: policy.network.float()"):
        save_policy(tmp_path / "p", network().double())
    assert not (tmp_path / "p").exists()


def test_what_is_read_is_the_readers_own(tmp_path: Path) -> None:
    """It can be trained, and no two parts share memory."""
    save_policy(tmp_path / "p", Mixture([network(), network()]))
    one, two = load(tmp_path / "p").members  # type: ignore[attr-defined]
    before = two.log_prob(SEQUENCES)
    one.loss(SEQUENCES).backward()
    with torch.no_grad():
        for w in one.network.parameters():
            w.sub_(w.grad)
    assert not np.array_equal(one.log_prob(SEQUENCES), before) and np.array_equal(two.log_prob(SEQUENCES), before)


@pytest.mark.parametrize(("vocabulary", "horizon"), [(2**20, T), (V, 2**13), (V - 1, T), (V, T - 1)])
def test_a_policy_of_other_sizes_is_none_of_the_problem(vocabulary: int, horizon: int, tmp_path: Path) -> None:
    """It would be asked for T probabilities of V tokens at once: one of a million tokens takes any memory."""
    problem = Problem("me/X-v0", tuple("abcde"), T, 10, base=lambda: Uniform(V, T, None))
    path = put(tmp_path / "final.safetensors", {**UNIFORM, "vocabulary": vocabulary, "horizon": horizon}, {})
    load(path)
    for read in (lambda: load(path, problem=problem), lambda: load_policy(tmp_path, problem)):
        with pytest.raises(AssetError, match=rf"it writes {horizon} of {vocabulary} tokens; .* me/X-v0 are 4 of 5"):
            read()
    load(put(path, UNIFORM, {}), problem=problem)


def test_a_filter_that_passes_nothing_is_given_up(tmp_path: Path) -> None:
    """Its normaliser was typed: sampling would never end."""
    numbers = {"log_taus": [1e300], "proposed": 1_000, "accepted": 900}
    policy = load(put(tmp_path / "p", {"kind": "filtered", "policy": UNIFORM, "models": [UNIFORM], **numbers}, {}))
    with within(20), pytest.raises(BadPolicy, match=r"passes 0 of .* its normaliser says that 900 of 1,000 do"):
        policy.sample(10, np.random.default_rng(0))


@pytest.mark.parametrize("n", [0, 1, 500])
def test_an_honest_filter_is_not_given_up(n: int) -> None:
    policy = Filtered(
        Uniform(V, T, None), [Repeating(SEQUENCES[0], V)], [0.0], 10_000, 10
    )  # says a hundredth of what passes
    assert policy.sample(n, np.random.default_rng(0)).shape == (n, T)


def test_a_filter_that_passes_little_draws_its_proposals_in_pieces() -> None:
    """100,000 samples of which one proposal in 1,000 passes are 120,000,000 proposals, which no memory holds at once."""
    asked: list[int] = []

    class Counted(Uniform):
        def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
            asked.append(n)
            return super().sample(n, rng)

    policy = Filtered(Counted(V, T, None), [Repeating(SEQUENCES[0], V)], [0.0], 1_000, 1)
    assert policy.sample(2_000, np.random.default_rng(0)).shape == (2_000, T)
    assert max(asked) == MOST_AT_ONCE
