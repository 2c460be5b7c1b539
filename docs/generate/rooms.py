"""The map of the rooms: folders of modules as boxes, what they import as arrows, read from the sources themselves."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from generate.text import escaped, save, summary, table

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"banel_leaderboard": "leaderboard", "banel_agents": "agents", "banel_envs": "."}  # from the top down
COLOURS = {"banel_leaderboard": "#dbe7f5", "banel_agents": "#f6e3d3", "banel_envs": "#dff0dc"}
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN, ROW = 190, 46, 26, 54, 24, 4


@dataclass
class Room:
    """One folder of modules."""

    name: str  # dotted, such as banel_envs.policies
    about: str = ""
    modules: list[str] = field(default_factory=list)
    imports: set[str] = field(default_factory=set)  # names of other rooms
    x: float = 0.0
    y: float = 0.0

    @property
    def package(self) -> str:
        """The package it belongs to."""
        return self.name.partition(".")[0]


def write(folder: Path) -> None:
    """The map, and the table of the rooms that the architecture page includes."""
    rooms = read()
    save(folder / "rooms.svg", draw(rooms))
    rows = [
        (f"`{room.name}`", escaped(room.about), ", ".join(f"`{m}`" for m in room.modules),
         ", ".join(f"`{other}`" for other in sorted(room.imports)))
        for room in rooms.values()
    ]  # fmt: skip
    save(folder / "rooms.inc.md", table(("room", "what it is", "modules", "imports from"), rows))


def read() -> dict[str, Room]:
    """Every room, with the other rooms that its modules import anywhere in them."""
    rooms: dict[str, Room] = {}
    sources: list[tuple[Room, Path]] = []
    for package, below in PACKAGES.items():
        for path in sorted((ROOT / below / package).rglob("*.py")):
            name = ".".join(path.parent.relative_to(ROOT / below).parts)
            room = rooms.setdefault(name, Room(name))
            sources.append((room, path))
            if path.stem == "__init__":
                room.about = summary(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")[0]
            else:
                room.modules.append(path.stem)
    for room, path in sources:
        for module in imported(path):
            target = module
            while target and target not in rooms:
                target = target.rpartition(".")[0]
            if target and target != room.name:
                room.imports.add(target)
    return rooms


def imported(path: Path) -> Iterable[str]:
    """Full names of what a source imports, names out of packages included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def draw(rooms: dict[str, Room]) -> str:
    """The map as SVG: a band for each package, the uppermost imports from those below it."""
    y, bands, width = float(MARGIN), [], 2 * MARGIN + ROW * WIDTH + (ROW - 1) * GAP_X
    for package in PACKAGES:
        own = [room for room in rooms.values() if room.package == package]
        top = y
        y += 34
        for start in range(0, len(own), ROW):
            row = own[start : start + ROW]
            left = (width - len(row) * WIDTH - (len(row) - 1) * GAP_X) / 2
            for place, room in enumerate(row):
                room.x, room.y = left + place * (WIDTH + GAP_X), y
            y += HEIGHT + GAP_Y
        bands.append(band(package, top, y - top - GAP_Y + 20, width))
        y += 6
    arrows = [arrow(room, rooms[other]) for room in rooms.values() for other in sorted(room.imports)]
    boxes = [box(room) for room in rooms.values()]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y:.0f}" font-family="sans-serif" role="img">'
        "<title>The rooms and what they import</title>"
        '<defs><marker id="tip" markerWidth="7" markerHeight="7" refX="6" refY="3" orient="auto">'
        '<path d="M0,0 L6,3 L0,6 z" fill="#5b6472"/></marker></defs>'
        f'<rect width="{width}" height="{y:.0f}" rx="10" fill="white"/>'
    )
    return "\n".join([head, *bands, *arrows, *boxes, "</svg>"])


def band(package: str, top: float, height: float, width: float) -> str:
    """The ground that the rooms of one package stand on."""
    return (
        f'<rect x="8" y="{top:.0f}" width="{width - 16}" height="{height:.0f}" rx="8" fill="{COLOURS[package]}" opacity="0.55"/>'
        f'<text x="20" y="{top + 22:.0f}" font-size="14" font-weight="bold" fill="#30343b">{package}</text>'
    )


def box(room: Room) -> str:
    """One room; its modules show where the pointer rests on it."""
    count = f"{len(room.modules)} module{'s' * (len(room.modules) != 1)}"
    name = room.name.partition(".")[2] or "the package itself"
    middle = room.x + WIDTH / 2
    lines = ((name, 20, 13, "#20242a"), (count, 37, 11, "#5b6472"))
    text = "".join(
        f'<text x="{middle:.0f}" y="{room.y + down:.0f}" font-size="{size}" text-anchor="middle" fill="{ink}">{words}</text>'
        for words, down, size, ink in lines
    )
    frame = f'<rect x="{room.x:.0f}" y="{room.y:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="white" stroke="#5b6472"/>'
    return f"<g><title>{room.name}: {', '.join(room.modules)}</title>{frame}{text}</g>"


def arrow(room: Room, other: Room) -> str:
    """From a room to one that it imports; within a package in a lighter line."""
    inside = room.package == other.package
    down = other.y > room.y
    x1, y1 = room.x + WIDTH / 2, room.y + (HEIGHT if down else 0)
    x2, y2 = other.x + WIDTH / 2, other.y + (0 if down else HEIGHT)
    if other.y == room.y:  # neighbours in a row: an arc above them
        y2, lift = other.y, 22.0
        middle = f"C{x1:.0f},{y1 - lift:.0f} {x2:.0f},{y2 - lift:.0f}"
    else:
        bend = (y2 - y1) / 2
        middle = f"C{x1:.0f},{y1 + bend:.0f} {x2:.0f},{y2 - bend:.0f}"
    colour, wide = ("#8b95a5", 1.0) if inside else ("#5b6472", 1.4)
    return (
        f'<path d="M{x1:.0f},{y1:.0f} {middle} {x2:.0f},{y2:.0f}" fill="none" stroke="{colour}" stroke-width="{wide}" '
        'marker-end="url(#tip)" opacity="0.8"/>'
    )
