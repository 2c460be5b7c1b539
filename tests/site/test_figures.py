"""The figures of `banel plot`: what they draw, by hand, and that each is drawn of whatever runs there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from banel_envs.errors import BadValue
from banel_leaderboard.command.cli import main
from banel_leaderboard.site.figures import reached, read, write_figures
from tests.shared.runs import HIT_AT_5, MISS, make_run, tiny

SUFFIXES = ("curves", "curve-Tiny-v0", "first", "profile", "compute")


def test_a_profile_by_hand() -> None:
    """Three runs of weight 1/2, 1/4 and 1/4 at 1, 0 and 3: all reach 0, three quarters 1, a quarter 3, none more."""
    x, share = reached(np.array([1.0, 0.0, 3.0]), np.array([0.5, 0.25, 0.25]))
    assert x.tolist() == [0.0, 1.0, 3.0, 3.0]
    assert share.tolist() == [1.0, 0.75, 0.25, 0.0]


@pytest.mark.parametrize(("ask", "good"), [(MISS, 0.0), (HIT_AT_5, 1.0)], ids=["no success", "successes"])
def test_one_agent_fills_every_figure(tmp_path: Path, ask: list[list[int]], good: float) -> None:
    for seed in range(3):
        make_run(tmp_path / "runs", "base", seed, ask=ask, good=good)
    files = write_figures(read([tmp_path / "runs"]), tmp_path / "out", "svg")
    assert {path.name for path in files} == {f"fixed-failures-{name}.svg" for name in SUFFIXES}
    for path in files:
        text = path.read_text()
        assert ">base<" in text and "nan" not in text.partition("<metadata>")[0]


def test_several_folders_stand_beside_each_other_and_the_bytes_are_the_same(tmp_path: Path) -> None:
    for name, good in (("ours", 1.0), ("theirs", 0.3)):
        for seed in range(2):
            make_run(tmp_path / name, "banel", seed, good=good, ask=HIT_AT_5)
            make_run(tmp_path / name, "banel", seed, good=good, ask=HIT_AT_5, task=tiny("test/Other-v0"))
    runs = read([tmp_path / "ours", tmp_path / "theirs"])
    made = [write_figures(runs, tmp_path / out, "svg") for out in ("a", "b")]
    assert [p.read_bytes() for p in made[0]] == [p.read_bytes() for p in made[1]]
    for path in made[0]:
        assert "banel (ours)" in path.read_text() and "banel (theirs)" in path.read_text()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "runs", twin=True)
    assert main(["plot", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 2
    assert "none of 1 runs" in capsys.readouterr().err
    make_run(tmp_path / "runs", "rnd", ask=HIT_AT_5)
    assert main(["plot", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "fixed-failures-profile.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(BadValue, match="no record"):
        read([tmp_path / "out"])
