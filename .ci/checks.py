"""The rules of this project that no ready-made tool checks; `python3 dev.py lint` and pre-commit run them.

The script needs the standard library only. It prints one line a fault and exits with 1 if there is any.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("banel_envs", "agents/banel_agents", "leaderboard/banel_leaderboard")
SOURCES = (*PACKAGES, "benchmarks", "examples", "tests", "docs", ".ci")
SKIPPED = {"_build", "generated", "__pycache__", ".venv"}
LONGEST_MODULE = 350  # lines; the house rule says about 300
LONGEST_FUNCTION = 70  # lines; the house rule says a screen, and the list of all options is the longest
UNSAFE = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}  # they run code when they load a file
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def files(folders: tuple[str, ...], suffix: str) -> Iterator[Path]:
    """Every file of this kind below the folders that is not made by a tool."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob(f"*{suffix}")):
            if not SKIPPED & set(path.parts):
                yield path


def check_modules() -> Iterator[str]:
    """Modules and functions of the packages fit their limits, and nothing imports a format that runs code."""
    for path in files(PACKAGES, ".py"):
        name, text = path.relative_to(ROOT), path.read_text(encoding="utf-8")
        lines = text.count("\n")
        if lines > LONGEST_MODULE:
            yield f"{name}: {lines} lines; a module has at most {LONGEST_MODULE}, so move one idea to a file of its own"
        for node in ast.walk(ast.parse(text)):
            yield from (f"{name}:{fault}" for fault in check_node(node))


def check_node(node: ast.AST) -> Iterator[str]:
    """What is wrong with one piece of syntax."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > LONGEST_FUNCTION:
            yield f"{node.lineno}: {node.name} has {length} lines; a function has at most {LONGEST_FUNCTION}"
    elif isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.partition(".")[0] in UNSAFE:
                yield f"{node.lineno}: imports {alias.name}, which runs code when it loads a file"
    elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in UNSAFE:
        yield f"{node.lineno}: imports {node.module}, which runs code when it loads a file"


def check_unfinished() -> Iterator[str]:
    """No source says that something is left to do: finish it, or file an issue."""
    for path in files(SOURCES, ".py"):
        if path == Path(__file__).resolve():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if UNFINISHED.search(line):
                yield f"{path.relative_to(ROOT)}:{number}: it says that something is left to do"


def check_links() -> Iterator[str]:
    """Links between the pages lead to files that exist."""
    pages = [*ROOT.glob("*.md"), *files(("docs", "leaderboard/submissions"), ".md")]
    for page in pages:
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            place = target.partition("#")[0]
            generated = page.parent.name == "docs" and place.startswith("generated/")
            if not place or ":" in place or generated:
                continue
            if not (page.parent / place).exists():
                yield f"{page.relative_to(ROOT)}: the link to {target} leads nowhere"


def check_pins() -> Iterator[str]:
    """Everything that pyproject.toml asks for has a pinned version, so that two installations are the same."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {
        plain(line) for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line
    }
    extras = project["optional-dependencies"]
    for requirement in {*project["dependencies"], *(name for names in extras.values() for name in names)}:
        name = plain(requirement)
        if name not in pinned and name != "banel-envs":
            yield f"constraints.txt: {name} has no pin, and pyproject.toml asks for it"


def plain(requirement: str) -> str:
    """The name in a requirement, in the one spelling that all indices agree on."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;]", requirement)[0]).lower()


def check_citation() -> Iterator[str]:
    """CITATION.cff names the version of the package."""
    version = re.search(r'__version__ = "([^"]+)"', (ROOT / "banel_envs/version.py").read_text(encoding="utf-8"))
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M)
    if version is None or cited is None or version[1] != cited[1]:
        yield f"CITATION.cff: its version is {cited and cited[1]}, the package's is {version and version[1]}"


def check_test_names() -> Iterator[str]:
    """No two files of tests have one name: pytest imports them by it, and stops at the second one."""
    first: dict[str, Path] = {}
    for path in files(("tests",), ".py"):
        if path.name.startswith("test_") and (other := first.setdefault(path.name, path)) != path:
            yield f"{path.relative_to(ROOT)}: {other.relative_to(ROOT)} has the same name; pytest runs one of them only"


def main() -> int:
    """Run every check."""
    checks = (check_test_names, check_modules, check_unfinished, check_links, check_pins, check_citation)
    faults = [fault for check in checks for fault in check()]
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(checks)} checks of this project's own, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
