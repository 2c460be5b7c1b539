"""What holds of every test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


def ours() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("BANEL_")}


@pytest.fixture(autouse=True)
def no_variable_is_left_behind() -> Iterator[None]:
    """A variable that one test leaves would change the runs that a later one starts."""
    before = ours()
    yield
    assert ours() == before
