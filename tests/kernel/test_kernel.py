"""The compiled kernel: its numbers against float64, its bits for any batch and register, and life without it."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_envs import kernel
from banel_envs.errors import BadPolicy, BadTokens, BadValue, MissingExtra
from banel_envs.policies.networks.markov_transformer import ChainedTransformer
from banel_envs.policies.networks.transformer import Transformer
from banel_envs.policies.steps import compiled_steps
from banel_envs.policies.steps.buffers import KEPT, PIECES, SPARE
from banel_envs.policies.steps.kernel_supports import takes
from tests.kernel.nets import compiled_here, policy, uniform_sequences


@compiled_here
@given(
    features=st.sampled_from([8, 16, 24]),
    heads=st.integers(1, 4),
    layers=st.integers(1, 3),
    V=st.integers(1, 40),
    T=st.integers(1, 9),
    n=st.integers(1, 130),
    seed=st.integers(0, 99),
    kind=st.sampled_from([Transformer, ChainedTransformer]),
    temperature=st.sampled_from([1.0, 0.5, 3.0]),
)
@settings(max_examples=60, deadline=None)
def test_any_shape_is_the_float64_reference(features, heads, layers, V, T, n, seed, kind, temperature):
    p = policy(features * heads, heads, layers, V, T, kind=kind, seed=seed, temperature=temperature)
    assert takes(p.network)
    tokens = uniform_sequences(n, p, seed)
    np.testing.assert_allclose(p.log_prob(tokens), p.double().log_prob(tokens), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        p.next_log_probs(tokens[:, : T - 1]), p.double().next_log_probs(tokens[:, : T - 1]), rtol=1e-5, atol=1e-5
    )


@compiled_here
def test_large_activations_and_sharp_attention():
    """GELU, exp and softmax far from 0: weights a hundred times as large."""
    p = policy(32, 4, seed=3)
    with torch.no_grad():
        for block in p.network.blocks:
            block.qkv.weight.mul_(100)
            block.up.weight.mul_(100)
    tokens = uniform_sequences(500, p)
    exact, torchs = p.double().log_prob(tokens), None
    with kernel.using("torch"):
        torchs = p.log_prob(tokens)
    ours = np.abs(p.log_prob(tokens) - exact) / np.abs(exact)
    assert np.median(ours) <= 2 * np.median(np.abs(torchs - exact) / np.abs(exact)) + 1e-6


@compiled_here
def test_what_is_no_number_stays_none():
    p = policy()
    with torch.no_grad():
        p.network.blocks[1].up.weight[0, 0] = float("nan")
    assert np.isnan(p.next_log_probs(uniform_sequences(3, p)[:, :1])).all()
    with pytest.raises(BadPolicy, match=r"NaN; its weight blocks.1.up.weight\[0, 0\] is nan"):
        p.log_prob(uniform_sequences(3, p))


@compiled_here
def test_a_sequence_has_the_same_bits_in_any_batch():
    p = policy(64, 4, V=12, T=10, end=11)
    tokens = p.sample(700, np.random.default_rng(0))
    scored = p.log_prob(tokens)
    for rows in ([5], [699, 3], np.arange(0, 700, 7), np.random.default_rng(1).permutation(700)):
        assert np.array_equal(p.log_prob(tokens[rows]), scored[rows])


@compiled_here
@pytest.mark.parametrize("width", [32, 64])
def test_every_width_of_register_gives_the_same_bits(width, monkeypatch):
    p = policy(width, 4, V=7)
    tokens = uniform_sequences(300, p)
    widest, found = kernel.library().banel_lanes(), []
    for lanes in (4, 8, 16):
        if lanes > widest:
            continue
        compiled_steps._functions.cache_clear()
        monkeypatch.setattr(kernel.library(), "banel_lanes", lambda lanes=lanes: lanes)
        assert compiled_steps._functions(width)[0] == lanes
        found.append(p.log_prob(tokens))
    compiled_steps._functions.cache_clear()
    for other in found[1:]:
        assert np.array_equal(other, found[0])


@compiled_here
def test_walks_at_once_do_not_share_their_memory():
    """Two states alive in turns, a walk amid another, and threads: what ended walks leave goes to one at a time."""
    p, q = policy(seed=1), policy(seed=2)
    tokens = uniform_sequences(200, p)
    alone = [p.next_log_probs(tokens[:, :3]), q.next_log_probs(tokens[:, :3])]
    states = [p.select(p.start(), np.zeros(200, np.int64)), q.select(q.start(), np.zeros(200, np.int64))]
    last, seen = np.full(200, p.vocabulary), [None, None]
    for position in range(4):
        for i, one in enumerate((p, q)):
            seen[i], states[i] = one.step(last, position, states[i])
            q.sample(50, np.random.default_rng(0))
        last = tokens[:, position]
    assert np.array_equal(seen[0], alone[0])
    assert np.array_equal(seen[1], alone[1])
    expected = [p.sample(3000, np.random.default_rng(k)) for k in range(4)]
    drawn = [None] * 4

    def draw(k):
        drawn[k] = p.sample(3000, np.random.default_rng(k))

    threads = [threading.Thread(target=draw, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(drawn, expected, strict=True))


@compiled_here
def test_what_walks_leave_is_bounded():
    p = policy(64, 4, V=12, T=10)
    for n in (1, 10, 3000, 1, 20_000, 50):
        p.sample(n, np.random.default_rng(n))
    pieces = SPARE.pieces
    assert 0 < len(pieces) <= PIECES
    assert sum(map(len, pieces)) <= KEPT
    held = [piece.ctypes.data for piece in pieces]
    assert len(set(held)) == len(held)


@compiled_here
def test_what_would_read_beyond_the_weights_is_refused():
    p = policy()
    for token in (-1, p.vocabulary + 1, 2**62):
        with pytest.raises(BadTokens, match=f"token {token} before position 0; tokens are 0..5"):
            p.step(np.array([token]), 0, p.start())
        with pytest.raises(BadTokens, match="before position 1"):
            p.next_log_probs(np.array([[0], [token], [1]]))
    _, state = p.step(np.array([p.vocabulary]), 0, p.start())
    with pytest.raises(BadValue, match="step at position 2 of a state at 1; the horizon is 6"):
        p.step(np.array([0]), 2, state)
    for position in range(1, p.horizon):
        _, state = p.step(np.array([0]), position, state)
    with pytest.raises(BadValue, match="step at position 6"):
        p.step(np.array([0]), p.horizon, state)


@compiled_here
def test_a_training_step_shows_in_the_next_walk():
    p = policy()
    tokens = uniform_sequences(20, p)
    before = p.log_prob(tokens)
    optimiser = torch.optim.SGD(p.network.parameters(), lr=0.001)
    p.loss(tokens).backward()
    optimiser.step()
    assert p.log_prob(tokens).mean() > before.mean()
    np.testing.assert_allclose(p.log_prob(tokens), p.double().log_prob(tokens), rtol=1e-5)


class Doubled(Transformer):
    """A user's own: its steps are not what `parts` says."""

    def step(self, last, position, cache):
        logits, grown = super().step(last, position, cache)
        return 2 * logits, grown


class Shifted(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x) + x[:, :1]


def changed(change):
    """A policy whose network is not, or not any more, what the package makes."""
    p = policy()
    change(p.network)
    return p


def set_(module, name, value):
    setattr(module, name, value)


NOT_PLAIN = {
    "float64": lambda: policy().double(),
    "a head of no eight features": lambda: policy(12, 3),
    "a subclass": lambda: policy(kind=Doubled),
    "a step of its own": lambda: changed(lambda n: set_(n, "step", lambda *a: Transformer.step(n, *a))),
    "a layer's method of its own": lambda: changed(lambda n: set_(n.head, "forward", lambda x: 2 * x[..., :5])),
    "a hook": lambda: changed(lambda n: n.head.register_forward_hook(lambda m, i, o: o * 2)),
    "a hook before": lambda: changed(lambda n: n.blocks[0].up.register_forward_pre_hook(lambda m, i: (i[0] * 2,))),
    "a head of another kind": lambda: changed(lambda n: set_(n, "head", Shifted(16, 5))),
    "a head without a bias": lambda: changed(lambda n: set_(n, "head", torch.nn.Linear(16, 5, bias=False))),
    "another epsilon": lambda: changed(lambda n: set_(n.norm, "eps", 0.5)),
    "a part in float64": lambda: changed(lambda n: n.token.double()),
    "fewer blocks": lambda: changed(lambda n: set_(n, "blocks", n.blocks[:1])),
    "fewer tokens": lambda: changed(lambda n: set_(n, "token", torch.nn.Embedding(3, 16))),
    "fewer positions": lambda: changed(lambda n: set_(n, "position", torch.nn.Embedding(3, 16))),
    "a smaller head": lambda: changed(lambda n: set_(n, "head", torch.nn.Linear(16, 3))),
    "other heads": lambda: changed(lambda n: set_(n.blocks[1], "heads", 4)),
}
BROKEN = {
    "a part in float64",
    "fewer tokens",
    "fewer positions",
    "a smaller head",
}  # PyTorch refuses or cannot take these


@pytest.mark.parametrize("why", NOT_PLAIN)
def test_who_is_not_taken(why):
    """What the kernel would compute wrongly, or read beyond, is PyTorch's: the same answer as without the kernel."""
    p = NOT_PLAIN[why]()
    assert not takes(p.network)
    if why not in BROKEN:
        tokens = uniform_sequences(70, p)
        with kernel.using("torch"):
            expected = p.log_prob(tokens)
        assert np.array_equal(p.log_prob(tokens), expected)


def test_a_module_of_another_kind_is_not_taken():
    assert not takes(torch.nn.Linear(3, 3))


@compiled_here
def test_one_state_in_several_threads():
    p = policy(V=7, T=8)
    _, root = p.step(np.array([7]), 0, p.start())
    expected = [p.step(np.full(500, k), 1, p.select(root, np.zeros(500, np.int64)))[0] for k in range(4)]
    wrong = []

    def branch(k):
        for _ in range(40):
            seen, _ = p.step(np.full(500, k), 1, p.select(root, np.zeros(500, np.int64)))
            if not np.array_equal(seen, expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=branch, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@compiled_here
@pytest.mark.parametrize("failing", range(4))
def test_a_step_that_ran_out_of_memory_can_be_taken_again(failing, monkeypatch):
    p = policy(layers=3)
    tokens = uniform_sequences(400, p)
    expected = p.next_log_probs(tokens[:, :2])
    SPARE.pieces.clear()
    taken, take, grown = [], type(SPARE).take, compiled_steps._grown

    def scarce(what, *arguments):
        taken.append(1)
        if len(taken) == failing + 1:
            raise MemoryError
        return what(*arguments)

    state, last = p.select(p.start(), np.zeros(400, np.int64)), np.full(400, p.vocabulary)
    for position in range(3):
        taken.clear()
        with monkeypatch.context() as patch:
            patch.setattr(type(SPARE), "take", lambda *a: scarce(take, *a))
            patch.setattr(compiled_steps, "_grown", lambda *a: scarce(grown, *a))
            try:
                seen, grown_state = p.step(last, position, state)
            except MemoryError:
                taken.extend([1] * 9)
                seen, grown_state = p.step(last, position, state)
        state, last = grown_state, tokens[:, position]
    assert np.array_equal(seen, expected)
    held = [piece.ctypes.data for piece in SPARE.pieces]
    assert len(set(held)) == len(held)


@compiled_here
def test_a_state_kept_and_stepped_often_takes_no_quadratic_time():
    """Rows are copied only as often as they double."""
    p, copied = policy(T=2), []
    _, root = p.step(np.array([5]), 0, p.start())
    grown = compiled_steps._grown
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            compiled_steps, "_grown", lambda array, used, size: copied.append(used) or grown(array, used, size)
        )
        for _ in range(500):
            p.step(np.zeros(10, np.int64), 1, p.select(root, np.zeros(10, np.int64)))
    assert sum(copied) < 2 * 2 * 2 * 5000


@compiled_here
def test_states_are_not_copied():
    state = policy().start()
    for copying in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(BadValue, match="neither copied nor stored"):
            copying(state.walk)


@compiled_here
@pytest.mark.parametrize("last", [[0.0, 1.0], [0], [[0], [1]], [0, 1, 2]], ids=str)
def test_what_is_no_token_for_every_prefix_is_refused(last):
    p = policy()
    _, state = p.step(np.array([5]), 0, p.start())
    with pytest.raises(BadTokens, match=r"the state takes integers \[2\]"):
        p.step(np.array(last), 1, p.select(state, np.zeros(2, np.int64)))


def test_the_environment_chooses(monkeypatch):
    monkeypatch.setenv("BANEL_KERNEL", "torch")
    assert kernel.kind() == "torch"
    assert not takes(policy().network)
    monkeypatch.setenv("BANEL_KERNEL", "fortran")
    with pytest.raises(BadValue, match="BANEL_KERNEL is 'fortran'; it must be one of compiled, torch"):
        policy().start()
    monkeypatch.setenv("BANEL_KERNEL", "")
    assert kernel.kind() == ("torch" if kernel.library() is None else "compiled")
    monkeypatch.delenv("BANEL_KERNEL")
    assert kernel.kind() == ("torch" if kernel.library() is None else "compiled")
    with pytest.raises(BadValue, match="kernel is 'x'"), kernel.using("x"):
        pass
    with kernel.using("torch"):
        assert os.environ["BANEL_KERNEL"] == kernel.kind() == "torch"
    assert "BANEL_KERNEL" not in os.environ


def shared_object(path, source):
    """A library of another making."""
    (path.parent / "other.c").write_text(source)
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        pytest.skip("no C compiler")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(path), str(path.parent / "other.c")], check=True)


STALE = 'const char *banel_built(void) { return "0123 gcc 1"; } int banel_lanes(void) { return 4; }'
LIBRARIES = {
    "none": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "no library": lambda path: path.write_bytes(b"not a library"),
    "another library": lambda path: shared_object(path, "int something(void) { return 1; }"),
    "of other sources": lambda path: shared_object(path, STALE),
}


@pytest.mark.filterwarnings("ignore:.*was built from other sources")
@pytest.mark.parametrize("which", LIBRARIES)
def test_without_a_library_torch_computes(which, monkeypatch, tmp_path):
    LIBRARIES[which](tmp_path / "kernel.bin")
    for name in kernel.SOURCES:
        shutil.copy(kernel.LIBRARY.parent / name, tmp_path / name)
    monkeypatch.setattr(kernel, "LIBRARY", tmp_path / "kernel.bin")
    kernel.library.cache_clear()
    try:
        assert kernel.kind() == "torch"
        p = policy()
        tokens = p.sample(100, np.random.default_rng(0))
        np.testing.assert_allclose(p.log_prob(tokens), p.double().log_prob(tokens), rtol=1e-5)
        with pytest.raises(MissingExtra, match="C compiler"), kernel.using("compiled"):
            pass
        monkeypatch.setenv("BANEL_KERNEL", "compiled")
        with pytest.raises(MissingExtra, match="C compiler"):
            kernel.kind()
    finally:
        kernel.library.cache_clear()


BUILD = """
import sys
from pathlib import Path
sys.path.insert(0, ".")
from hatch_build import compile_kernel
print(compile_kernel(Path("."), Path(sys.argv[1])))
"""


@pytest.mark.parametrize(
    ("compiler", "path", "said"),
    [
        ("", "/nowhere", "no C compiler found"),
        ("no-such-compiler -x", None, "No such file or directory: 'no-such-compiler'"),
        ("false", None, "failed"),
        ("true", None, "failed"),  # and wrote nothing
        ("gcc 'x", None, "No closing quotation"),
    ],
)
def test_a_build_without_a_compiler_says_so(compiler, path, said, tmp_path):
    pytest.importorskip("hatchling")
    (tmp_path / "kernel.bin").write_bytes(b"an older one")
    environment = os.environ | {"CC": compiler} | ({} if path is None else {"PATH": path})
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(tmp_path / "kernel.bin")],
        capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert not (tmp_path / "kernel.bin").exists()
