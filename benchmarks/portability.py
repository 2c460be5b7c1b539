"""Whether the same seeds ask the same questions whatever computes: `python -m benchmarks.portability`.

Each agent is run in a process of its own: with the kernel as it is installed, with kernels from other compilers, at other
levels of optimisation and for registers of 4, 8 and 16 numbers, and with NumPy and PyTorch kept from the instructions that
newer processors have. What is compared is a digest of every question and of the last policy's probabilities of the base
policy's samples. An agent is portable if all are equal; the table in docs/speed.md is what this prints.

    --task ID        the task (default banel/AdditionAttack-v0)
    --agents A,B     the agents (default: all that are shipped)
    --budget N       the budget of each run (default 1,500)
    --compilers C    more compilers, separated by commas: "clang,python -m ziglang cc"
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from banel_envs import kernel
from hatch_build import compile_kernel

ROOT = Path(__file__).resolve().parent.parent
OLD = {
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V4 AVX2 FMA3 X86_V3",
    "ATEN_CPU_CAPABILITY": "default",
}


def main() -> int:
    """Run every agent in every way and print the table; the status is 1 if an agent that says it is portable is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="banel/AdditionAttack-v0")
    parser.add_argument("--agents", default="")
    parser.add_argument("--budget", type=int, default=1_500)
    parser.add_argument("--compilers", default="")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--library", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(digest(options.task, options.one, options.budget, options.library))
        return 0
    from banel_agents import AGENTS

    agents = options.agents.split(",") if options.agents else list(AGENTS)
    with tempfile.TemporaryDirectory() as folder:
        ways = libraries(Path(folder), [c for c in options.compilers.split(",") if c])
        wrong = 0
        for agent in agents:
            found = {}
            for way, library in ways.items():
                found[way] = run(options, agent, library, OLD if way == "older instructions" else {})
            first = found["as installed"]
            different = [way for way, value in found.items() if value != first]
            wrong += bool(different) and AGENTS[agent].portable
            print(
                f"{agent:22} {'portable' if AGENTS[agent].portable else 'bound':9} "
                f"{len(found) - len(different)} of {len(found)} equal"
                + (f"; other: {', '.join(different)}" if different else ""),
                flush=True,
            )
    return int(wrong > 0)


def libraries(folder: Path, compilers: list[str]) -> dict[str, str | None]:
    """Each way of computing, and the library that it loads."""
    ways: dict[str, str | None] = {"as installed": None, "older instructions": None}
    found = [c for c in ("gcc", "clang") if shutil.which(c)] + compilers
    builds = [(found[0], "-O3", f"-DBANEL_MOST_LANES={lanes}") for lanes in (4, 8)] + [
        (found[0], "-O3", "-DBANEL_HALVES")
    ]
    builds += [(c, level, "-DBANEL_MOST_LANES=8") for c in found for level in ("-O1", "-O2", "-O3")][:-1]
    for i, (compiler, level, definition) in enumerate(dict.fromkeys(builds)):
        library = folder / str(i) / "kernel.bin"
        library.parent.mkdir()
        compile_to(library, compiler, level, definition)
        ways[f"{compiler} {level} {definition[2:]}"] = str(library)
    return ways


def compile_to(library: Path, compiler: str, *flags: str) -> None:
    """Build the kernel with another compiler or other flags than it is installed with."""
    sources = kernel.LIBRARY.parent
    for name in kernel.SOURCES:
        shutil.copy(sources / name, library.parent / name)  # the kernel is loaded only beside what it was built from
    trouble = compile_kernel(ROOT, library, *flags, compiler=compiler)
    if trouble:
        raise SystemExit(trouble)


def run(options: argparse.Namespace, agent: str, library: str | None, variables: dict[str, str]) -> str:
    """The digest of one run in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.portability", "--one", agent, "--task", options.task]
    command += ["--budget", str(options.budget)] + (["--library", library] if library else [])
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{agent} failed: {done.stderr[-2000:]}")
    return done.stdout.strip().splitlines()[-1]


def digest(task: str, agent: str, budget: int, library: str | None) -> str:
    """What a run asks, and what its last policy is worth, in this process."""
    if library:
        kernel.LIBRARY = Path(library)
    import numpy as np

    from banel_agents import make_agent
    from banel_envs import TASKS, Oracle

    loaded = TASKS[task]
    oracle = Oracle(loaded, budget=budget, feedback="full")
    *_, last = make_agent(agent).learn(loaded.problem, oracle, np.random.default_rng(0))
    seen = hashlib.sha256("\n".join(ask.packed for ask in oracle.ledger.asks).encode())
    samples = loaded.problem.base_policy().sample(200, np.random.default_rng(1))
    rates = hashlib.sha256(last.log_prob(samples).tobytes()).hexdigest()
    return json.dumps([seen.hexdigest(), rates])


if __name__ == "__main__":
    sys.exit(main())
