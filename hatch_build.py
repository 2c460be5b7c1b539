"""Compiles the kernel where the package is built, if a C compiler is there; without one the package is pure Python.

A wheel with the kernel holds for any Python on its platform; `pip install -e .` leaves the library beside its source.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("banel_envs/kernel")
LIBRARY = FOLDER / "kernel.bin"
SOURCES = ("kernel.c", "portable.h", "trie.h", "width.h", "lanes.h", "step.h", "train.h", "gru.h", "adam.h")
# Nothing is fused but what is written as fused, so that the bits are the same from every compiler.
FLAGS = ("-O3", "-fPIC", "-shared", "-ffp-contract=off", "-fno-math-errno")


def compile_kernel(root: Path, library: Path, *flags: str, compiler: str | None = None) -> str | None:
    """Write the library; None, or why it could not be: then there is none, an older one neither.

    `flags` come after the usual ones and override them; `compiler` is a command, by default that of CC or the first found.
    """
    library.unlink(missing_ok=True)  # processes that run on it keep it
    sources = root / FOLDER
    digest = hashlib.sha256(b"".join((sources / name).read_bytes() for name in SOURCES)).hexdigest()
    try:
        wanted = shlex.split(os.environ.get("CC", "") if compiler is None else compiler)
        found = wanted or [name for name in ("cc", "gcc", "clang") if shutil.which(name)][:1]
        if not found:
            return "no C compiler found (cc, gcc or clang)"
        command = [
            *found,
            *FLAGS,
            *flags,
            f'-DBANEL_DIGEST="{digest}"',
            "-o",
            str(library),
            str(sources / SOURCES[0]),
            "-lm",
        ]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=300)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode or not library.exists():
        library.unlink(missing_ok=True)
        return f"{shlex.join(command)} failed: {done.stderr.strip()[-500:]}"
    return None


class CustomBuildHook(BuildHookInterface):
    """Hatchling's hook, for wheels only: a source distribution holds the source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile into the checkout for an editable install, else into a folder of its own and from there into the wheel."""
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        self.folder = tempfile.TemporaryDirectory()
        library = root / LIBRARY if version == "editable" else Path(self.folder.name) / LIBRARY.name
        trouble = compile_kernel(root, library)
        if trouble:
            self.app.display_warning(f"the kernel was not compiled, PyTorch's operations will do: {trouble}")
        elif version != "editable":
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data.update(pure_python=False, tag=f"py3-none-{platform}")
            build_data["force_include"][str(library)] = str(LIBRARY)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The library is in the wheel."""
        if self.target_name == "wheel":
            self.folder.cleanup()
