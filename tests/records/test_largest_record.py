"""Whatever a record may hold fits into the file that is read back."""

from __future__ import annotations

from banel_agents.limits import MOST_SERIES
from banel_envs.files import safe_files
from banel_envs.problem import MOST_BUDGET
from banel_leaderboard.records.field_limits import MOST_REPORTED, Reported
from banel_leaderboard.records.record import RunRecord
from tests.shared.runs import make_run


def test_the_largest_report_can_be_read_again(tmp_path):
    record = make_run(tmp_path)
    reported = Reported()
    names = [f"series {k:02}".ljust(100, "x") for k in range(MOST_SERIES)]
    for nre in range(MOST_REPORTED):
        reported.note("a", nre, dict.fromkeys(names, -1.2345678901234567e-200))
    series = {name: [(MOST_BUDGET, value) for _, value in kept] for name, kept in reported.series.items()}
    assert {len(kept) for kept in series.values()} == {MOST_REPORTED}
    whole = record.model_copy(update={"reported": series})
    path = tmp_path / "record.json"
    whole.write(path)
    assert path.stat().st_size < safe_files.RECORD
    assert RunRecord.load(path).reported == whole.reported
