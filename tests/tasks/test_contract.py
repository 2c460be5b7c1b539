"""Every shipped task keeps the contract: a task with a line in the registry is tested here."""

from __future__ import annotations

import pytest

from banel_envs import TASKS
from banel_envs.data import DataMissing
from banel_envs.errors import MissingExtra
from banel_envs.tasks import SHIPPED
from banel_envs.testing import check_task

LONG = 60  # tokens of a sequence, from which on a check of every prefix takes minutes


@pytest.mark.parametrize("id", SHIPPED)
def test_the_contract(id):
    try:
        task = TASKS[id]
        task.witness()  # what is missing is missed here at once
        check_task(task, samples=2_000 if task.problem.T < LONG else 40)
    except (MissingExtra, DataMissing) as missing:
        pytest.skip(str(missing))
