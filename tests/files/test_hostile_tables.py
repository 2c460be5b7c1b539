"""Tables that somebody made: whatever they claim, they are read, or refused quickly and in little memory."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_envs import assets, data
from banel_envs.assets import FOLDER, asset, write_digests
from banel_envs.data import DataAltered, mnist
from banel_envs.errors import AssetError
from banel_envs.files import safe_files, safe_npz
from tests.shared.hostile import within


def npy(header: bytes | None = None, body: bytes = b"", array: Any = None) -> bytes:
    stream = io.BytesIO()
    if array is not None:
        np.lib.format.write_array(stream, np.asarray(array), allow_pickle=True)
        return stream.getvalue()
    assert header is not None
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


def npz(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return stream.getvalue()


def claiming(content: bytes, size: int) -> bytes:
    """The same zip, its first member claiming another size unpacked, in both places."""
    real = zipfile.ZipFile(io.BytesIO(content)).infolist()[0].file_size.to_bytes(4, "little")
    return content.replace(real, size.to_bytes(4, "little"))


HEADER = b"{'descr': '<i8', 'fortran_order': False, 'shape': (%d,), }\n"
TABLES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "no .npz file"),
    "text": (b"hello" * 100, "no .npz file"),
    "bomb": (npz({"a.npy": bytes(50_000_000)}), "has 50,000,000 bytes when it is unpacked; at most 1,000,000"),
    "many bombs": (npz({f"{k}.npy": bytes(400_000) for k in range(5)}), "2,000,000 bytes when"),
    "a bomb that claims little": (claiming(npz({"a.npy": npy(HEADER % 1) + bytes(900_000)}), 100), "no .npz file: Bad CRC"),
    "many members": (npz({f"{k}.npy": npy(array=0) for k in range(1_001)}), "it has 1,001 members"),
    "2^60 numbers": (npz({"a.npy": npy(HEADER % 2**60, bytes(80))}), "claims int64"),
    "10^30 numbers": (npz({"a.npy": npy(HEADER % 10**30, bytes(80))}), "claims int64"),
    "fewer numbers": (npz({"a.npy": npy(HEADER % 9, bytes(80))}), "claims int64"),
    "negative": (npz({"a.npy": npy(b"{'descr': '<i8', 'fortran_order': False, 'shape': (-1,), }\n", b"")}), "claims|negative"),
    "objects": (npz({"a.npy": npy(array=np.array([{}], object))}), "holds 'object'"),
    "records": (npz({"a.npy": npy(array=np.zeros(2, "i4,i4"))}), "only plain numbers"),
    "code": (npz({"a.npy": npy(b"{'descr': __import__('os').abort(), 'shape': (), 'fortran_order': False}\n")}), "malformed"),
    "a long header": (npz({"a.npy": npy(b"{" + b" " * 60_000 + b"}\n")}), "Header info length"),
    "version 9": (npz({"a.npy": b"\x93NUMPY\x09\x00" + bytes(100)}), "only support format version|is of version"),
    "no npy": (npz({"a.npy": b"hello"}), "magic|EOF|expected"),
    "cut": (npz({"a.npy": npy(array=np.arange(1_000))})[:-30], "no .npz file"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_that_is_none_is_refused(kind: str) -> None:
    content, says = TABLES[kind]
    with within(10, megabytes=4 + 3 * len(content) / 1e6), pytest.raises(ValueError, match=says) as raised:
        safe_npz.tables(content, 1_000_000)
    assert len(str(raised.value)) < 500


def test_the_same_member_twice_is_refused() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file, pytest.warns(UserWarning, match="Duplicate"):
        for _ in range(2):
            file.writestr("a.npy", npy(array=1))
    with pytest.raises(ValueError, match="it has 2 members, 1 of them different"):
        safe_npz.tables(stream.getvalue(), 1_000)


def test_tables_are_what_numpy_reads() -> None:
    stream = io.BytesIO()
    arrays = {
        "a": np.arange(12).reshape(3, 4), "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "empty": np.zeros((0, 3)),
        "scalar": np.array(3), "text": np.array(["ab", "c"]), "bool": np.array([True]),
    }  # fmt: skip
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    found = safe_npz.tables(stream.getvalue(), 10_000)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)


def test_every_shipped_table_is_read() -> None:
    for path in sorted(FOLDER.glob("*.npz")):
        found = safe_npz.tables(path.read_bytes(), safe_files.TABLE)
        with np.load(path) as wanted:
            assert set(found) == set(wanted)
            assert all(np.array_equal(found[name], wanted[name]) for name in found)


@settings(max_examples=150, deadline=None)
@given(at=st.floats(0, 1), put_in=st.binary(max_size=4), cut=st.integers(0, 4))
def test_a_changed_table_is_refused_or_read(at: float, put_in: bytes, cut: int) -> None:
    content = npz({"a.npy": npy(array=np.arange(5)), "b.npy": npy(array="x")}, zipfile.ZIP_STORED)
    place = int(at * len(content))
    with within(10):
        try:
            safe_npz.tables(content[:place] + put_in + content[place + cut :], 1_000_000)
        except ValueError:
            return


@pytest.mark.parametrize("kind", ["bomb", "2^60 numbers", "objects"])
def test_mnist_of_a_stranger_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_files, "TABLE", 1_000_000)
    (tmp_path / data.MNIST).write_bytes(TABLES[kind][0])
    with within(10, megabytes=6), pytest.raises(DataAltered, match=r"is no \.npz file with"):
        mnist(tmp_path)


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that BANEL_ASSETS names."""
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path))
    for cached in (assets.digests, assets._listed):
        cached.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    for cached in (assets.digests, assets._listed):
        cached.cache_clear()


@pytest.mark.parametrize("kind", ["bomb", "2^60 numbers", "objects"])
def test_tables_of_a_strangers_instance_are_looked_at(
    kind: str, instance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safe_files, "TABLE", 1_000_000)
    (instance / "countdown_puzzle.npz").write_bytes(TABLES[kind][0])
    write_digests(instance)
    with within(10, megabytes=6), pytest.raises(AssetError, match=r"countdown_puzzle\.npz is no table: "):
        asset("countdown_puzzle.npz")


@pytest.mark.parametrize(
    "sums",
    [b"x", b"0" * 64, b"0" * 64 + b"  ../../etc/passwd", b"0" * 64 + b"  /etc/passwd", b"0" * 64 + b"  .npz", b"\xff"],
)
def test_sums_that_are_none_are_refused(sums: bytes, instance: Path) -> None:
    (instance / assets.SUMS).write_bytes(sums)
    with pytest.raises(AssetError, match=assets.VARIABLE):
        asset("countdown_puzzle.npz")


def test_an_installed_file_may_be_a_link(instance: Path) -> None:
    real = instance / "real"
    real.write_bytes((FOLDER / "countdown_puzzle.npz").read_bytes())
    (instance / "countdown_puzzle.npz").symlink_to(real)
    write_digests(instance)
    assert asset("countdown_puzzle.npz") == instance / "countdown_puzzle.npz"
