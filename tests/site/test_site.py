"""The site's files: what is gathered, that every number is the board's own, and that the same files give the same bytes."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from banel_envs.errors import BadValue
from banel_leaderboard.command.cli import main
from banel_leaderboard.ranking.across import overall
from banel_leaderboard.ranking.boards import make_boards
from banel_leaderboard.ranking.cut import cut
from banel_leaderboard.ranking.rows import Row
from banel_leaderboard.running.evaluator import STEPS
from banel_leaderboard.site.gather import Gathered, gather
from banel_leaderboard.site.island import data, island
from banel_leaderboard.site.sets import task_sets
from banel_leaderboard.site.submission_page import command
from banel_leaderboard.site.write import write_site
from banel_leaderboard.submission.attestation import Rerun, Stratum, digest_of_submission
from tests.shared.runs import HIT_AT_5, MISS, make_run, tiny
from tests.site.conftest import SECOND, describe
from tests.site.unpacked import unpack


@pytest.fixture(scope="module")
def gathered(folder: Path) -> Gathered:
    return gather(folder)


# What is gathered


def test_submissions_are_read_apart(gathered: Gathered) -> None:
    mine, theirs = gathered.handed
    assert (mine.id, mine.said.name if mine.said else None) == ("mine", "A method of ours")
    assert (theirs.id, theirs.said) == ("theirs", None) and "submission.json" in theirs.unnamed
    assert {run.submission for run in theirs.runs} == {"theirs"} and len(theirs.runs) == 5


def test_one_agent_in_two_submissions_has_two_rows(gathered: Gathered) -> None:
    (board,) = [
        b
        for b in make_boards([r for h in gathered.handed for r in h.runs])
        if (b.name, b.regime) == ("fixed", "failures")
    ]
    found = [(row.runs[0].submission, len(row.runs)) for row in board.tables[1].rows if row.first.agent == "banel"]
    assert sorted(found) == [("mine", 5), ("theirs", 5)]


def test_a_folder_that_is_a_submission_is_read_alone(folder: Path) -> None:
    (one,) = gather(folder / "mine").handed
    assert one.id == "mine" and one.said is not None


def test_what_cannot_be_read_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    make_run(tmp_path / "good")
    (tmp_path / "empty").mkdir()
    (tmp_path / "elsewhere").symlink_to(tmp_path / "good")
    found = gather(tmp_path)
    assert [h.id for h in found.handed] == ["good"]
    assert [name for name, _ in found.unread] == ["empty"]


@pytest.mark.parametrize("make", [False, True])
def test_no_submission_is_bad_input(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "submissions").mkdir()
    with pytest.raises(BadValue, match="submissions"):
        gather(tmp_path / "submissions")


def test_odd_folder_names_have_pages_of_their_own(tmp_path: Path) -> None:
    for name in ("Mine", "mine", "a b", "x" * 100):
        make_run(tmp_path / name)
    pages = [handed.page for handed in gather(tmp_path).handed]
    assert len({page.lower() for page in pages}) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", page) for page in pages)


# The numbers


def shown_rows(shown: dict[str, Any], name: str, regime: str) -> list[dict[str, Any]]:
    (board,) = [b for b in shown["boards"] if (b["name"], b["regime"]) == (name, regime)]
    columns = {key: unpack(column) for key, column in board["rows"].items()}
    return [{key: column[i] for key, column in columns.items()} for i in range(len(columns["entry"]))]


def of_entry(
    shown: dict[str, Any], rows: list[dict[str, Any]], agent: str, submission: int, task: str
) -> dict[str, Any]:
    (row,) = [
        row
        for row in rows
        if shown["tasks"][int(row["task"])]["id"] == task
        and (shown["entries"][int(row["entry"])]["agent"], shown["entries"][int(row["entry"])]["s"])
        == (agent, submission)
    ]
    return row


def opened(text: str) -> dict[str, Any]:
    """The data of a page, from the text that its element holds."""
    made: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(text)))
    return made


def held(site: Path) -> dict[str, Any]:
    """The data of a site that was written."""
    (text,) = re.findall(r'id="data">([^<]*)<', (site / "index.html").read_text())
    return opened(text)


def test_every_number_is_the_boards_own(gathered: Gathered) -> None:
    shown = opened(island(gathered))
    boards = {(b.name, b.regime): b for b in make_boards([r for h in gathered.handed for r in h.runs])}
    assert {(b["name"], b["regime"]) for b in shown["boards"]} == {key for key in boards if key[0] != "off"}
    for (name, regime), board in boards.items():
        if name == "off":
            continue
        rows = shown_rows(shown, name, regime)
        assert len(rows) == sum(len(table.rows) for table in board.tables)
        for table in board.tables:
            for row in table.rows:
                number = ["mine", "theirs"].index(row.runs[0].submission)
                found = of_entry(shown, rows, row.first.agent, number, table.task)
                check_row(row, found)


def check_row(row: Row, found: dict[str, Any]) -> None:
    assert found["curve"][-1] == pytest.approx(row.final.value, abs=0.005)
    for name in ("best", "mixture", "other"):
        assert found[name] == pytest.approx(getattr(row, name).value, abs=0.005)
    assert {q: found.get(f"rank_{q}") for q in row.ranks if f"rank_{q}" in found} == {
        q: row.ranks[q] for q in row.ranks if f"rank_{q}" in found
    }
    assert found["finals"] == pytest.approx(sorted(run.record.final(row.rate) for run in row.runs), abs=0.005)
    if row.final.low is None:
        assert found["final_low"] is None
    elif math.isfinite(row.final.low):
        assert found["curve"][-1] - found["final_low"] == pytest.approx(row.final.low, abs=0.006)
    if row.first_success is not None and row.distinct is not None:
        assert found["first"] == pytest.approx(row.first_success.nre.value, abs=0.5)
        assert found["found"][-1] == row.distinct.total.value
        assert found["firsts"] == sorted(run.record.first_success or math.inf for run in row.runs)


def test_the_overview_is_the_boards_table_across_tasks(gathered: Gathered) -> None:
    """At the whole budget as it is, and at two thirds of it as the board of runs that are cut off there."""
    runs = [r for h in gathered.handed for r in h.runs]
    (board,) = [b for b in make_boards(runs) if (b.name, b.regime) == ("fixed", "failures")]
    whole, part = overall(board), overall(board, 10, resamples=0)
    assert whole is not None and part is not None
    shown = data(gathered)
    (mine,) = [b for b in shown["boards"] if (b["name"], b["regime"]) == ("fixed", "failures")]
    (everything,) = mine["sets"]
    assert everything["key"] == "all" and everything["left"] == [["banel of theirs", "on 1 of 2 tasks"]]
    worth = {key: unpack(column) for key, column in everything["lines"]["worth"].items()}
    for i, line in enumerate(whole.lines):
        score = line.scores["worth"]
        assert worth["value"][i][-1] == pytest.approx(score.value, abs=0.005)
        (then,) = [other.scores["worth"] for other in part.lines if other.agent == line.agent]
        assert worth["value"][i][9] == pytest.approx(then.value, abs=0.005)
        assert (worth["rank"][i], worth["tier"][i]) == (score.rank, score.group)
        assert then.ranks is None and then.group is None and then.low is None


def test_a_run_cut_off_by_hand(tmp_path: Path) -> None:
    """Budget 60, a success at every sixth NRE from 5 on, of which one sequence is distinct."""
    make_run(tmp_path, ask=HIT_AT_5)
    (run,) = gather(_alone(tmp_path)).handed[0].runs
    assert cut(run, STEPS) is run
    one = cut(run, 1)  # 4 evaluations
    assert (one.record.budget, one.record.first_success, one.record.ledger.count) == (4, None, 4)
    assert [p.nre for p in one.record.points] == [0, 4] and len(one.asked.found) == 0
    two = cut(run, 2)
    assert (two.record.budget, two.record.first_success) == (8, 5) and two.asked.found.tolist() == [5]
    assert two.record.final() == run.record.points[2].success.at()


def _alone(folder: Path) -> Path:
    """The folder of a submission that has a name."""
    describe(folder, "one")
    return folder


def test_sets_are_all_tasks_suites_and_families(tmp_path: Path) -> None:
    ids = [
        "banel/AdditionAttack-v0",
        "banel/AdditionAttackHard-v0",
        "banel/Gaussian1D-v0",
        "banel/Ehrlich-v0",
        "test/T-v0",
    ]
    for id in ids:
        make_run(tmp_path / "one", "base", 0, task=dataclasses.replace(tiny(), problem=tiny(id).problem))
    runs = [dataclasses.replace(r, submission="one") for r in _unverified(tmp_path / "one")]
    (board,) = make_boards(runs)
    sets = {chosen.key: [table.task for table in chosen.tables] for chosen in task_sets(board)}
    assert sets["all"] == sorted(ids)
    assert sets["suite:smoke"] == ids[:2] and "suite:full" not in sets
    assert sets["family:paper"] == ids[:3] and "family:dial" not in sets  # one task is no set


def _unverified(folder: Path) -> list[Any]:
    """Runs whose records name shipped tasks that they are not of: load_runs would refuse them."""
    from banel_envs.meter.ledger import Ledger
    from banel_leaderboard.proving.asked import Asked
    from banel_leaderboard.proving.load import Proved, Run
    from banel_leaderboard.proving.standing import Standing
    from banel_leaderboard.records.record import RunRecord

    level = Proved(Standing.RECOMPUTED, Standing.RECOMPUTED)
    return [
        Run(path.parent.name, RunRecord.load(path), "0.1.0", Asked.of(Ledger.read(path.parent / "ledger.jsonl")), level)
        for path in sorted(folder.rglob("record.json"))
    ]


# The files


def test_the_same_submissions_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    made = [
        {p.relative_to(out): p.read_bytes() for p in write_site(gather(folder), out)}
        for out in (tmp_path / "a", tmp_path / "b")
    ]
    assert made[0] == made[1]
    assert {str(path) for path in made[0]} == {
        "index.html",
        "submissions/index.html",
        "submissions/mine.html",
        "submissions/theirs.html",
    }


def test_every_page_allows_its_own_style_and_script_and_nothing_else(index: Path) -> None:
    for page in index.parent.rglob("*.html"):
        text = page.read_text()
        (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
        policy = policy.replace("&#39;", "'")
        assert policy.startswith("default-src 'none';")
        for tag, rule in (("style", "style-src"), ("script", "script-src")):
            inside = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
            hashes = [
                f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" for part in inside
            ]
            allowed = re.findall(rf"{rule} ([^;]*);", policy)
            assert allowed == ([" ".join(hashes)] if hashes else [])
        assert not re.findall(r'<(?:img|iframe|object|embed|link)[^>]*(?:src|href)="(?!data:,)', text)
        assert not re.search(r'\son\w+="|\sstyle="', text)


def test_a_page_that_is_gone_is_removed_and_a_strangers_folder_refused(folder: Path, tmp_path: Path) -> None:
    write_site(gather(folder), tmp_path)
    (tmp_path / "submissions" / "old.html").write_text("an older submission")
    write_site(gather(folder), tmp_path)
    assert not (tmp_path / "submissions" / "old.html").exists()
    (tmp_path / "submissions" / "notes.txt").write_text("mine")
    with pytest.raises(BadValue, match=r"notes\.txt.*name another folder"):
        write_site(gather(folder), tmp_path)
    (tmp_path / "new" / "submissions").mkdir(parents=True)  # without an overview it is no site
    with pytest.raises(BadValue, match="name another folder"):
        write_site(gather(folder), tmp_path / "new")


def test_a_page_of_a_submission_says_how_to_make_it_again(index: Path) -> None:
    text = (index.parent / "submissions" / "mine.html").read_text()
    assert "A method of ours" in text and 'href="https://example.org/paper"' in text
    assert "banel replay leaderboard/submissions/mine" in text
    assert "banel run --task test/Tiny-v0 --agent banel --seeds 0-4 --feedback failures --set batch=6 --out out" in text
    assert "--budget 120" in text and "off the board" in text
    (head,) = re.findall(r"<tr><td>0</td><td><code>([0-9a-f]{64})</code></td></tr>", text.partition("--budget 120")[2])[
        :1
    ]
    assert len(head) == 64
    unnamed = (index.parent / "submissions" / "theirs.html").read_text()
    assert "Unnamed submission" in unnamed


def test_commands_are_quoted(gathered: Gathered) -> None:
    run = gathered.handed[1].runs[0]
    record = run.record.model_copy(update={"tuned": True, "config": {"text": "a b; rm -rf ~", "n": [1, 2]}})
    line = command([0, 2], dataclasses.replace(run, record=record))
    assert "--seeds 0,2" in line and """--set 'text="a b; rm -rf ~"' --set 'n=[1, 2]'""" in line


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["site", "--submissions", str(folder), "--out", str(tmp_path / "site")]) == 0
    assert "of 2 submissions" in capsys.readouterr().out
    assert main(["site", "--submissions", str(tmp_path / "none"), "--out", str(tmp_path / "site")]) == 2
    (folder / "inside.jsonl").write_text("")
    said = [
        "site",
        "--submissions",
        str(folder),
        "--out",
        str(tmp_path / "s"),
        "--attestations",
        str(folder / "inside.jsonl"),
    ]
    assert main(said) == 2
    (folder / "inside.jsonl").unlink()
    assert "lies inside" in capsys.readouterr().err


def test_where_nobody_met_a_success_and_one_agent_stands_alone(tmp_path: Path) -> None:
    make_run(tmp_path / "one", "base", 0, ask=MISS, good=0.0)
    shown = data(gather(tmp_path))
    assert [b["regime"] for b in shown["boards"]] == ["failures"]
    (row,) = shown_rows(shown, "fixed", "failures")
    assert row["first"] == math.inf and row["decided"] == math.inf and row["firsts"] == [math.inf]
    assert row["curve"][-1] == -math.inf and row["found"] == [0] * STEPS
    assert SECOND not in json.dumps(shown)


def test_the_verdict_of_a_rerun_stands_beside_the_standing_and_binds_the_bytes(tmp_path: Path) -> None:
    make_run(tmp_path / "in" / "one", "banel", 0, ask=HIT_AT_5)
    make_run(tmp_path / "in" / "one", "base", 0, ask=MISS)
    Rerun(
        submission="one",
        sha256=digest_of_submission(tmp_path / "in" / "one"),
        agent="banel",
        seeds=(100,),
        strata=(Stratum(task="test/Tiny-v0", regime="failures", submitted=1, fresh=1, met_submitted=1, met_fresh=1),),
        statistic=0.0,
        p=0.5,
        least=0.5,
        verdict="undecided",
        package="0.1.0",
        processor="test processor",
    ).write(tmp_path / "attestations")
    arguments = ["site", "--submissions", str(tmp_path / "in"), "--out", str(tmp_path / "site")]
    assert main(arguments) == 0  # the folder beside the submissions
    assert held(tmp_path / "site")["submissions"][0]["rerun"] == ["banel", "undecided"]
    assert (
        "<strong>undecided</strong>: banel on 1 fresh seeds"
        in (tmp_path / "site" / "submissions" / "one.html").read_text()
    )
    describe(tmp_path / "in" / "one", "Changed since then")
    assert main(arguments) == 0
    assert "rerun" not in held(tmp_path / "site")["submissions"][0]
