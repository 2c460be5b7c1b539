"""The reference of the `banel` command, from its own parser."""

from __future__ import annotations

import argparse
import importlib
import tomllib
from pathlib import Path

from generate.text import escaped, save, table

ROOT = Path(__file__).resolve().parents[2]
EXITS = (
    ("0", "done"),
    ("1", "a run failed, or was not proved"),
    ("2", "bad input; nothing was run"),
    ("75", "waiting for the answers of an external oracle; run the same command again when they are there"),
    ("130", "stopped with Ctrl-C; the same command goes on where it was"),
)


def write(folder: Path) -> None:
    """One page for all commands."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module = project["scripts"]["banel"].partition(":")[0]
    top: argparse.ArgumentParser = importlib.import_module(module).parser()
    parts = ["# The banel command", escaped(top.description or "")]
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            about = {choice.dest: choice.help or "" for choice in action._choices_actions}
            parts += [command(name, about.get(name, ""), sub) for name, sub in action.choices.items()]
    parts.append("## Exit status\n\n" + table(("status", "meaning"), EXITS))
    save(folder / "commands.md", "\n\n".join(parts))


def command(name: str, about: str, parser: argparse.ArgumentParser) -> str:
    """One command: what it does, how it is called, its options."""
    parser.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=100)
    usage = parser.format_usage().removeprefix("usage: ").rstrip()
    parts = [f"## banel {name}", f"{escaped(about[:1].upper() + about[1:])}.", f"```text\n{usage}\n```"]
    rows = [(spelling(action), meaning(action)) for action in parser._actions if action.dest != "help"]
    if rows:
        parts.append(table(("argument", "meaning"), rows))
    if parser.epilog:
        parts.append(f"```text\n{parser.epilog}\n```")
    return "\n\n".join(parts)


def spelling(action: argparse.Action) -> str:
    """How an argument is written."""
    value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
    value = "|".join(map(str, action.choices)) if action.choices else str(value)
    if not action.option_strings:
        return f"`{value if action.choices else action.dest.upper()}`"
    return ", ".join(f"`{option} {value}`".replace(" `", "`") for option in action.option_strings)


def meaning(action: argparse.Action) -> str:
    """What an argument does, and whether it must be given."""
    text = escaped(
        (action.help or "") % {"default": action.default} if "%(" in (action.help or "") else action.help or ""
    )
    needed = "**Needed.** " if action.required and action.option_strings else ""
    return f"{needed}{text}"
