"""A page for every registered agent: what it does, its settings with defaults and limits, what it reached."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from banel_agents import AGENTS
from generate.text import escaped, prose, read_tables, save, summary, table, toctree

ROOT = Path(__file__).resolve().parents[2]
BOARD = ROOT / "leaderboard" / "submissions" / "board.md"
COMMENT = re.compile(r"^\s+(\w+)\s*:[^#]*#\s*(.+)$")
SHOWN = (
    "task", "rank", "seeds", "NRE to first success", "success by then", "distinct successes",
    "final success", "final fresh", "gain over twin",
)  # fmt: skip
IN_WORDS = {
    "failures": "failures: it can improve without ever meeting a success",
    "successes": "successes: until the first one it stays at the base policy",
    "both": "failures and successes",
    "nothing": "nothing: it is a control",
}

ASKED = {
    "base": "samples of the base policy",
    "yielded": "samples of the policy that it yielded last",
    "unasked": "samples of the policy that it yielded last, and nothing twice",
}


def write(folder: Path) -> None:
    """A page for each agent, and the page that lists them."""
    listed = []
    for name, shipped in AGENTS.items():
        module, _, attribute = shipped.where.partition(":")
        agent = getattr(importlib.import_module(module), attribute)
        save(folder / "agents" / f"{name}.md", page(name, agent))
        listed.append((f"[`{name}`]({name}.md)", first_line(agent)))
    about = (
        "An agent improves a policy under the meter. Every agent has one set of defaults for all tasks; a run with other "
        "settings is marked as tuned. [Your own agent](../../own-agent.md) is one class with one method."
    )
    contents = toctree(AGENTS, hidden="")
    save(
        folder / "agents" / "index.md",
        f"# Agents\n\n{about}\n\n{table(('agent', 'what it does'), listed)}\n\n{contents}",
    )


def describe(agent: type[Any]) -> str:
    """The docstring that tells most: the class's own, or that of its module."""
    own = inspect.getdoc(agent) or ""
    return (inspect.getmodule(agent).__doc__ or "") if not own or own.startswith("See the module") else own


def first_line(agent: type[Any]) -> str:
    """What an agent does in one sentence."""
    return escaped(summary(describe(agent))[0])


def page(name: str, agent: type[Any]) -> str:
    """One agent."""
    module = inspect.getmodule(agent).__doc__ or ""
    first, rest = summary(describe(agent))
    parts = [f"# {name}", escaped(first), prose(rest)]
    learns = getattr(agent, "learns_from", None)
    if learns:
        parts.append(f"**It learns from** {escaped(IN_WORDS.get(str(learns), str(learns)))}.")
    if asked := ASKED.get(str(getattr(agent, "asks_from", None))):
        parts.append(f"**It asks** {asked}.")
    if describe(agent) != module:
        parts.append(f"From the page of its module:\n\n{prose(module)}")
    parts += [settings(agent.Config), reached(name)]
    parts.append(
        f"## Run it\n\n```bash\nbanel run --task banel/AdditionAttack-v0 --agent {name} --seeds 0-4 --out out\n```"
    )
    return "\n\n".join(part for part in parts if part)


def settings(config: type[Any]) -> str:
    """The settings of an agent: default, limits and meaning."""
    meanings, default = comments(config), config()
    limits = get_type_hints(config, include_extras=True)
    rows = [
        (
            f"`{field.name}`",
            f"`{getattr(default, field.name)!r}`",
            may_be(limits[field.name]),
            escaped(meanings.get(field.name, "")),
        )
        for field in dataclasses.fields(config)
    ]
    if not rows:
        return "## Settings\n\nIt has none."
    about = "Set one on the command line with `--set NAME=VALUE`, or in Python with `make_agent(name, {...})`."
    return f"## Settings\n\n{about}\n\n{table(('setting', 'default', 'may be', 'meaning'), rows)}"


def may_be(hint: Any) -> str:
    """The type of a setting, and its limits where it states any."""
    kind, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    for note in notes:
        if hasattr(note, "words"):
            return "one of " + ", ".join(f"`{word}`" for word in note.words)
    name = getattr(kind, "__name__", str(kind))
    return escaped(", ".join([name, *(str(note) for note in notes)]))


def comments(config: type[Any]) -> dict[str, str]:
    """The comment beside each field, those of the classes it inherits from included."""
    found: dict[str, str] = {}
    for part in reversed(config.__mro__):
        if dataclasses.is_dataclass(part):
            for line in inspect.getsource(part).splitlines():
                if match := COMMENT.match(line):
                    found[match[1]] = match[2]
    return found


def reached(name: str) -> str:
    """Its rows of the committed board, where it is on it."""
    if not BOARD.exists():
        return ""
    parts = []
    for heading, rows in read_tables(BOARD.read_text(encoding="utf-8")):
        own = [row for row in rows if re.match(rf"`{re.escape(name)}`(\s|$)", row.get("agent", ""))]
        columns = [column for column in SHOWN if own and "task" in own[0] and column in own[0]]
        if columns:
            cells = [[escaped(row.get(column, "")) for column in columns] for row in own]
            parts.append(f"### {escaped(heading)}\n\n{table(columns, cells)}")
    about = "Medians over the seeds in log10, with their 95% intervals; from the board that is committed."
    return f"## On the board\n\n{about}\n\n" + "\n\n".join(parts) if parts else ""
