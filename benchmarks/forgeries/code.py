"""Names that reach code: they would import or run something, if anybody believed them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.forgeries.change import Harm, bind, plant_code, sealed


def record_names_code(**changes: str) -> Harm:
    def apply(folder: Path, place: Path) -> None:
        plant_code(place, "evil")
        bind(**changes)(folder, place)

    return apply


def status_names_code(**changes: Any) -> Harm:
    def apply(folder: Path, place: Path) -> None:
        plant_code(place, "evil")
        sealed(lambda f, _: f.status.update(changes))(folder, place)

    return apply


def shadow_modules(folder: Path, place: Path) -> None:
    for name in (
        "pydantic",
        "numpy",
        "json",
        "multiprocessing",
        "tqdm",
        "banel_agents",
        "jinja2",
        "torch",
        "sitecustomize",
    ):
        plant_code(place, name)
