"""Docstrings as Markdown, and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

SPECIAL = re.compile(r"([\\*_\[\]<>#])")
COLUMNS = re.compile(r"\S {3,}\S")  # words set in columns, which a paragraph would run together


def save(path: Path, text: str) -> None:
    """Write a page, and its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.rstrip() + "\n", encoding="utf-8")


def escaped(text: str) -> str:
    """Plain text as Markdown that looks the same; what stands between backticks stays code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else SPECIAL.sub(r"\\\1", part) for part in parts)


def prose(docstring: str) -> str:
    """A docstring as Markdown: paragraphs, lists, and what is indented or set in columns as it stands."""
    blocks = []
    for paragraph in re.split(r"\n\s*\n", docstring.strip("\n")):
        lines = paragraph.splitlines()
        if all(line.startswith("    ") for line in lines) or any(COLUMNS.search(line) for line in lines):
            blocks.append("```text\n" + "\n".join(line.removeprefix("    ") for line in lines) + "\n```")
        else:
            blocks.append("\n".join(re.sub(r"^\+", r"\\+", escaped(line)) for line in lines))
    return "\n\n".join(blocks)


def summary(docstring: str) -> tuple[str, str]:
    """The first sentence line of a docstring, and the rest."""
    first, _, rest = docstring.strip().partition("\n\n")
    return " ".join(first.split()), rest


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the cells are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def read_tables(text: str) -> list[tuple[str, list[dict[str, str]]]]:
    """The tables of a Markdown page: the headings above each one, and its rows by column."""
    found: list[tuple[str, list[dict[str, str]]]] = []
    heading, header = "", []
    for line in text.splitlines():
        if line.startswith("#"):
            level, title = len(line) - len(line.lstrip("#")), line.lstrip("# ")
            heading = f"{heading.partition(': ')[0]}: {title}" if level > 2 else title
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            header = []
        elif not header:
            header = cells
            found.append((heading, []))
        elif not set(line) <= set("|-: "):
            found[-1][1].append(dict(zip(header, cells, strict=False)))
    return found


def toctree(pages: Iterable[str], **options: str) -> str:
    """A table of contents."""
    lines = [f":{name}: {value}".rstrip() for name, value in options.items()]
    return "```{toctree}\n" + "\n".join([*lines, "", *pages]) + "\n```"
