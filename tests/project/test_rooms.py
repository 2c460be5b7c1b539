"""Imports go down only: from each room to the rooms below it in docs/architecture.md, and never in a circle of modules."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"banel_envs": ROOT, "banel_agents": ROOT / "agents", "banel_leaderboard": ROOT / "leaderboard"}
MODULES = {
    ".".join(path.relative_to(above).with_suffix("").parts).removesuffix(".__init__"): path
    for package, above in PACKAGES.items()
    for path in sorted((above / package).rglob("*.py"))
}


def rooms():
    """The rooms from the top down: files, and folders with a slash at the end."""
    block = (
        (ROOT / "docs" / "architecture.md").read_text().partition("<!-- rooms -->\n```text\n")[2].partition("```")[0]
    )
    return [line.split()[0] for line in block.splitlines()]


ROOMS = rooms()


def room_of(module):
    """The room of a module: the longest name in the list that fits it."""
    path = MODULES[module].relative_to(ROOT).as_posix()
    return max((room for room in ROOMS if path == room or (room.endswith("/") and path.startswith(room))), key=len)


def statements(node):
    """Every statement that imports, in functions too, but for what is imported for its types alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and ast.unparse(child.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            yield from statements(ast.Module(child.orelse, []))
        else:
            yield from statements(child)


@cache
def imported(module):
    """The modules of these packages that one module imports."""
    found = set()
    for node in statements(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            assert not node.level, f"{module} imports by a relative name, which this test does not follow"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else str(node.module) for name in names]
        found |= {name for name in names if name.partition(".")[0] in PACKAGES}
    return found


def test_every_module_has_a_room_and_every_room_is_there():
    assert len(MODULES) > 100 and len(ROOMS) == len(set(ROOMS)) > 20
    assert {room_of(module) for module in MODULES} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_rooms_below_it_only(room):
    allowed = set(ROOMS[ROOMS.index(room) :])
    upwards = [
        f"{module} imports {other}"
        for module in MODULES
        if room_of(module) == room
        for other in sorted(imported(module))
        if room_of(other) not in allowed
    ]
    assert upwards == []


def test_no_modules_import_each_other_in_a_circle():
    try:
        order = list(TopologicalSorter({module: imported(module) - {module} for module in MODULES}).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))
    assert len(order) == len(MODULES)


def test_what_counts_as_an_import():
    source = """
import a
if TYPE_CHECKING:
    import types_only
else:
    import b
def f():
    from c import d
    try:
        import e
    except ImportError:
        import f
"""
    found = [(getattr(node, "module", None) or node.names[0].name) for node in statements(ast.parse(source))]
    assert found == ["a", "b", "c", "e", "f"]
