"""Families: which of the five each shipped task belongs to."""

from __future__ import annotations

from banel_envs.tasks import SHIPPED

FAMILIES = {
    "paper": ("addition_attack", "zero_to_six", "zero_to_six_mnist", "gaussian1d"),
    "dial": ("ehrlich", "needle"),
    "algorithmic": ("countdown", "list_program"),
    "proof": ("proof",),
    "molecules": ("molecule_rediscovery", "molecule_window"),
}
"""family -> the modules of its tasks."""


def family_of(id: str) -> str:
    """The family of a shipped task; empty for any other."""
    module = SHIPPED.get(id, "").partition(":")[0].rpartition(".")[2]
    return next((family for family, modules in FAMILIES.items() if module in modules), "")
