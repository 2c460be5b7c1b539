"""`banel data gsm8k`: from the repository or the hub, checked before it is written; no test reaches the network."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
from types import SimpleNamespace

import pytest

from banel_envs import data
from banel_envs.data import DataAltered, DataMissing, gsm8k
from banel_leaderboard.command import fetch_gsm8k
from banel_leaderboard.command.cli import main

ROWS = {
    "train": [{"question": "What is 1 + 1?", "answer": "1 + 1 = <<1+1=2>>2\n#### 2"}],
    "test": [{"question": "And 2 \u2013 1?", "answer": "2 - 1 = <<2-1=1>>1\n#### 1"}],
}


@pytest.fixture(autouse=True)
def written_for_this_test(monkeypatch):
    """Questions of our own take the place of the published ones, and nothing can be loaded unless a test allows it."""
    for part, rows in ROWS.items():
        content = "".join(f"{row['question']}\0{row['answer']}\0" for row in rows)
        monkeypatch.setitem(data.GSM8K_SHA256, part, hashlib.sha256(content.encode()).hexdigest())
    repository(monkeypatch, OSError("no route"))
    monkeypatch.setitem(sys.modules, "datasets", None)


def repository(monkeypatch, answer):
    def urlopen(address, timeout):
        if isinstance(answer, Exception):
            raise answer
        assert address.startswith("https://raw.githubusercontent.com/openai/grade-school-math/") and timeout > 0
        return io.BytesIO(answer(address.rpartition("/")[2].removesuffix(".jsonl")))

    monkeypatch.setattr(fetch_gsm8k.urllib.request, "urlopen", urlopen)


def lines(part, **how):
    return "".join(json.dumps(row, **how) + "\n" for row in ROWS[part]).encode()


def hub(monkeypatch, rows=ROWS):
    def load_dataset(name, config, split):
        assert (name, config) == ("openai/gsm8k", "main")
        return rows[split]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))


def found(folder):
    return [gsm8k(part, folder)[0]._asdict() for part in ("train", "test")]


@pytest.mark.parametrize("source", ["repository", "hub"])
def test_both_parts_are_written_and_kept(source, monkeypatch, tmp_path, capsys):
    if source == "repository":
        repository(monkeypatch, lambda part: lines(part, ensure_ascii=False))  # other bytes, the same content
    else:
        hub(monkeypatch)
    folder = tmp_path / "new"
    assert main(["data", "gsm8k", "--out", str(folder)]) == 0
    assert f"{folder} holds GSM8K; tasks find it with BANEL_DATA={folder}" in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == sorted(data.GSM8K.values())
    assert found(folder) == [ROWS["train"][0], ROWS["test"][0]]
    before = {path: path.read_bytes() for path in folder.iterdir()}
    repository(monkeypatch, OSError("nothing is loaded again"))
    hub(monkeypatch, {})
    fetch_gsm8k.fetch_gsm8k(folder)
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


def test_other_content_is_never_written(monkeypatch, tmp_path):
    repository(monkeypatch, lambda part: lines(part).replace(b"#### ", b"#### 1"))
    hub(monkeypatch, {"train": [], "test": []})
    with pytest.raises(DataMissing, match=r"could not be loaded: .*SHA-256 of their content.*openai/gsm8k"):
        fetch_gsm8k.fetch_gsm8k(tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_network_and_without_the_library(tmp_path):
    with pytest.raises(DataMissing, match=r"no route.*pip install datasets"):
        fetch_gsm8k.fetch_gsm8k(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_wrong_file_is_not_replaced(monkeypatch, tmp_path):
    repository(monkeypatch, lines)
    path = tmp_path / data.GSM8K["train"]
    path.write_bytes(gzip.compress(b"mine"))
    with pytest.raises(DataAltered):
        fetch_gsm8k.fetch_gsm8k(tmp_path)
    assert [path] == list(tmp_path.iterdir()) and gzip.decompress(path.read_bytes()) == b"mine"


def test_a_write_that_fails_leaves_nothing(monkeypatch, tmp_path):
    repository(monkeypatch, lines)

    def full_disk(path, content, draft):
        draft.write_bytes(content[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch_gsm8k.safe_files, "write", full_disk)
    with pytest.raises(DataMissing, match="No space left"):
        fetch_gsm8k.fetch_gsm8k(tmp_path)
    assert not list(tmp_path.iterdir())
