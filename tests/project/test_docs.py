"""What the pages promise: every command line in them parses, and the generated pages leave nothing out."""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
from pathlib import Path

import pytest

from banel_agents import AGENTS, make_agent
from banel_envs import TASKS
from banel_envs.tasks import SHIPPED
from banel_leaderboard.command.cli import parser

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.py")]
COMMANDS = [
    (page.name, line.strip())
    for page in PAGES
    for line in page.read_text().splitlines()
    if re.match(
        r"\s*(\.venv/bin/)?banel (list|run|bench|board|site|plot|show|data|hard-questions|replay|pack|unpack|submit|check|rerun)"
        r"(?= |$)",
        line,
    )
    and "..." not in line
]


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_command_lines_parse(page, command):
    words = shlex.split(command, comments=True)
    options = parser().parse_args(words[1:])
    for option, known in (("task", TASKS), ("agent", AGENTS)):
        named = getattr(options, option, None) or []
        for name in [named] if isinstance(named, str) else named:  # `banel replay` takes several
            assert ":" in name or name in known


def test_there_are_command_lines():
    assert len(COMMANDS) > 15


@pytest.fixture(scope="module")
def generate():
    """The generators of the documentation."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import generate.agents
        import generate.commands
        import generate.rooms
        import generate.tasks
        import generate.text

        yield generate
    finally:
        sys.path.remove(str(ROOT / "docs"))
        for name in [name for name in sys.modules if name.partition(".")[0] == "generate"]:
            del sys.modules[name]


def test_every_agent_has_a_page_with_every_setting(generate, tmp_path):
    generate.agents.write(tmp_path)
    for name in AGENTS:
        text = (tmp_path / "agents" / f"{name}.md").read_text()
        config = make_agent(name).config
        for field in dataclasses.fields(config):
            row = next(line for line in text.splitlines() if line.startswith(f"| `{field.name}` |"))
            assert f"`{getattr(config, field.name)!r}`" in row
            assert len(re.findall(r"(?<!\\)\|", row)) == 5


def test_every_command_and_option_is_on_the_page(generate, tmp_path):
    generate.commands.write(tmp_path)
    text = (tmp_path / "commands.md").read_text()
    actions = next(action for action in parser()._actions if action.choices)
    for name, sub in actions.choices.items():
        section = text.partition(f"## banel {name}\n")[2].partition("\n## ")[0]
        assert section
        for action in sub._actions:
            assert all(option in section for option in action.option_strings if action.dest != "help")


def test_a_page_says_what_was_measured(generate, tmp_path):
    rows = generate.tasks.measured_rows()
    assert set(rows) == {id.rpartition("/")[2] for id in SHIPPED}
    id = "banel/ZeroToSixMNIST-v0"  # whose witness needs data that may be missing
    text = generate.tasks.page(tmp_path, TASKS[id], rows["ZeroToSixMNIST-v0"], None)
    assert "not measured" in text and "-11.05" in text
    assert (tmp_path / "ZeroToSixMNIST-v0.png").stat().st_size > 100
    assert (tmp_path / "ZeroToSixMNIST-v0-rates.svg").read_text().startswith("<?xml")


def test_the_map_has_every_room_and_no_import_upwards(generate):
    rooms = generate.rooms.read()
    order = list(generate.rooms.PACKAGES)
    assert {room.package for room in rooms.values()} == set(order)
    for room in rooms.values():
        below = {rooms[other].package for other in room.imports}
        assert all(order.index(package) >= order.index(room.package) for package in below)
    drawing = generate.rooms.draw(rooms)
    assert drawing.count("<g>") == len(rooms)
    assert drawing.count("marker-end") == sum(len(room.imports) for room in rooms.values())


def test_docstrings_become_markdown_that_looks_the_same(generate):
    prose = generate.text.prose
    assert prose("p_theta(x) >= *tau*, see `a_b` [1]") == r"p\_theta(x) \>= \*tau\*, see `a_b` \[1\]"
    assert prose("one\n\n    two  three\n\nfour") == "one\n\n```text\ntwo  three\n```\n\nfour"
    assert prose("base        samples\ntempered    hotter") == "```text\nbase        samples\ntempered    hotter\n```"
    assert prose("- F: +1\n+1 on a line") == "- F: +1\n\\+1 on a line"
    assert generate.text.read_tables("## A\n| a | b |\n| --- | ---: |\n| 1 | 2 |\n\n| c |\n| --- |\n| 3 |\n") == [
        ("A", [{"a": "1", "b": "2"}]),
        ("A", [{"c": "3"}]),
    ]
