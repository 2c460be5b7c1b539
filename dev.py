#!/usr/bin/env python3
"""One door to this checkout: `python3 dev.py demo`, `test`, `lint`, `docs`, `build` or `all`.

Each command makes the environment `.venv` where it is missing, installs what the command needs with the versions of
constraints.txt, and then does its work. An installation is repeated only when something it depends on has changed.
The script needs Python 3.11 or newer and nothing else: no make, no git, no compiler.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import time
import webbrowser
from pathlib import Path

OLDEST = (3, 11)
if sys.version_info < OLDEST:  # before anything that an older Python would stumble over
    _found = ".".join(map(str, sys.version_info[:3]))
    sys.exit(f"dev.py: this is Python {_found}, and banel-envs needs Python 3.11 or newer; run dev.py with a newer one")

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
SCRIPTS = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = SCRIPTS / ("python.exe" if os.name == "nt" else "python")
LOG = VENV / "install.log"
STAMP = VENV / "dev-stamp.json"  # which extras were installed, and the hash of what they depended on
DEPENDS_ON = ("pyproject.toml", "constraints.txt", "hatch_build.py", "banel_envs/version.py")
OFFLINE = ("NewConnectionError", "name resolution", "ConnectTimeoutError", "from versions: none", "ProxyError")
INSTALL_MINUTES = "this takes minutes the first time"


class Trouble(Exception):
    """Something that the person at the keyboard can mend; printed as one line."""


def run(*command: "str | Path", cwd: Path = ROOT) -> None:
    """Run a command, and end with its exit status if that is not 0."""
    sys.stdout.flush()
    done = subprocess.run([str(part) for part in command], cwd=str(cwd))
    if done.returncode:
        sys.exit(done.returncode if done.returncode > 0 else 1)


def module(name: str, *arguments: "str | Path") -> None:
    """Run a module with the environment's Python."""
    run(PYTHON, "-m", name, *arguments)


def program(name: str) -> Path:
    """A program that an installed package brought into the environment."""
    return SCRIPTS / (f"{name}.exe" if os.name == "nt" else name)


def make_environment() -> None:
    """Make `.venv` where there is none that works."""
    if works():
        return
    for needed in ("venv", "ensurepip"):
        if importlib.util.find_spec(needed) is None:
            raise Trouble(
                f"this Python lacks the module {needed}, which makes environments; "
                "on Debian and Ubuntu `apt install python3-venv` brings it"
            )
    print(f"making the environment {VENV}")
    # --clear also mends an environment whose Python is gone.
    done = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode or not works():
        raise Trouble(f"the environment {VENV} could not be made: {last_line(done.stdout)}")


def works() -> bool:
    """Whether `.venv` holds a Python that is new enough and has pip."""
    if not PYTHON.exists():
        return False
    check = f"import sys, pip; sys.exit(sys.version_info < {OLDEST})"
    try:
        return subprocess.run([str(PYTHON), "-c", check], stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def fingerprint() -> str:
    """Hash of everything that an installation depends on."""
    digest = hashlib.sha256(str(ROOT).encode())
    kernel = sorted(p for p in (ROOT / "banel_envs").rglob("*") if p.suffix in {".c", ".h"})
    for path in [*(ROOT / name for name in DEPENDS_ON), *kernel]:
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def installed() -> "set[str]":
    """The extras that stand in `.venv` and are up to date."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
        return set(stamp["extras"]) if stamp["fingerprint"] == fingerprint() else set()
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def install(extra: str) -> None:
    """Install the package with this extra, unless that was done already and nothing has changed since."""
    make_environment()
    before = installed()
    # Both other extras include what the extra `all` brings.
    if extra in before or (extra == "all" and before):
        return
    extras = sorted(before | {extra})
    target = f".[{','.join(extras)}]"
    print(f"installing {target} with the versions of constraints.txt ({INSTALL_MINUTES}; {LOG} has the details)")
    STAMP.unlink(missing_ok=True)
    command = [str(PYTHON), "-m", "pip", "install", "--progress-bar", "off", "-c", "constraints.txt", "-e", target]
    start = time.monotonic()
    with LOG.open("w", encoding="utf-8") as log:
        done = subprocess.run(command, cwd=str(ROOT), stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        raise Trouble(why_pip_failed(LOG.read_text(encoding="utf-8", errors="replace")))
    STAMP.write_text(json.dumps({"extras": extras, "fingerprint": fingerprint()}) + "\n", encoding="utf-8")
    print(f"installed in {time.monotonic() - start:.0f} s")


def why_pip_failed(said: str) -> str:
    """One line that tells what stopped pip, and what to do."""
    if any(sign in said for sign in OFFLINE):
        return f"pip could not fetch the packages; is there a network? Run the command again when there is ({LOG})"
    if "No space left" in said:
        return f"the disk is full; the packages take about 2 GB ({LOG})"
    errors = [line for line in said.splitlines() if line.startswith("ERROR:")]
    return f"pip failed: {last_line(errors[0] if errors else said)} ({LOG})"


def last_line(text: str) -> str:
    """The last line of a text that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"


def demo(options: argparse.Namespace, _: "list[str]") -> None:
    """Run a small benchmark and write its page: out/ and page.html."""
    install("all")
    banel = program("banel")
    run(banel, "bench", "--suite", "smoke", "--out", "out")
    page = ROOT / "page.html"
    run(banel, "board", "out", "--out", page)
    print(f"the page is {page}")
    if options.open and not webbrowser.open(page.as_uri()):
        print("no browser could be started; open the page by hand")


def test(_: argparse.Namespace, arguments: "list[str]") -> None:
    """Run pytest; further arguments are passed on to it, such as `-m slow` or `tests/meter/test_oracle.py`."""
    install("dev")
    module("pytest", *arguments)


def lint(_: argparse.Namespace, __: "list[str]") -> None:
    """Check style, types, the workflows and the rules of this project."""
    install("dev")
    module("ruff", "check", ".")
    module("ruff", "format", "--check", ".")
    module("mypy")
    run(PYTHON, ROOT / ".ci" / "checks.py")
    print("zizmor on the workflows")
    run(program("zizmor"), "--offline", "--quiet", "--no-progress", "--no-config", ROOT / ".github")


def docs(_: argparse.Namespace, __: "list[str]") -> None:
    """Build the documentation site, run its snippets, and print where it is."""
    install("docs")
    source, target = ROOT / "docs", ROOT / "docs" / "_build"
    for builder in ("html", "doctest"):
        # -W makes a warning an error; -E reads every page again, since pages are generated from the package.
        module("sphinx", "-q", "-W", "--keep-going", "-E", "-b", builder, source, target / builder)
    print(f"the site is {target / 'html' / 'index.html'}")


def build(_: argparse.Namespace, __: "list[str]") -> None:
    """Build the source distribution and the wheel into dist/."""
    install("dev")
    module("hatchling", "build", "-d", ROOT / "dist")


def everything(options: argparse.Namespace, _: "list[str]") -> None:
    """Do lint, test, docs and build, one after the other."""
    for command in (lint, test, docs, build):
        print(f"\n=== dev.py {command.__name__}")
        command(options, [])


COMMANDS = {"demo": demo, "test": test, "lint": lint, "docs": docs, "build": build, "all": everything}


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="dev.py", description="Set up this checkout and work on it.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        about = str(command.__doc__)
        sub = commands.add_parser(name, help=about[0].lower() + about[1:].rstrip("."), description=about)
        if name == "demo":
            sub.add_argument("--open", action="store_true", help="open the page in a browser")
    return top


def main() -> int:
    """Run one command; its exit status is that of the first step that fails."""
    top = parser()
    options, rest = top.parse_known_args()
    if rest and options.command != "test":
        top.error(f"{options.command} takes no argument {rest[0]!r}")
    try:
        COMMANDS[options.command](options, rest)
    except Trouble as trouble:
        print(f"dev.py: {trouble}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("dev.py: stopped; run the same command again to go on where it was", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
