"""A page for every registered task: what it asks, its sizes, its base success, what the controls reach, a picture."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from banel_envs import TASKS, BanelError, Task
from banel_envs.tasks import BROUGHT, SHIPPED
from generate.charts import draw_rates
from generate.text import escaped, prose, read_tables, save, summary, table, toctree

ROOT = Path(__file__).resolve().parents[2]
MEASURED = next((ROOT / "leaderboard").rglob("measured.json"))
RATES = ("base success", "tempered", "tempered_sft", "banel", "banel's twin")
MEANING = {
    "base success": "The base policy, before anything is learnt.",
    "tempered": "The base policy at temperature 2: a control that learns nothing.",
    "tempered_sft": "A control that is told its successes and imitates them.",
    "banel": "BaNEL, from failures alone.",
    "banel's twin": "BaNEL with an oracle that answers “failure” to everything: what it reaches without the oracle.",
}


def write(folder: Path) -> None:
    """A page for each task, and the page that lists them."""
    rows = measured_rows()
    known: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
    listed = []
    for id in SHIPPED:
        task, name = TASKS[id], id.rpartition("/")[2]
        row = rows.get(name, {})
        save(folder / "tasks" / f"{name}.md", page(folder / "tasks", task, row, known.get(id)))
        listed.append((f"[{name}]({name}.md)", row.get("family", ""), str(task.problem.V), str(task.problem.T),
                       f"{task.problem.budget:,}", base_in_words(known.get(id))))  # fmt: skip
    header = ("task", "family", "V", "T", "budget", "base success (log10)")
    about = (
        "V is the number of tokens to choose from, T the length of the longest sequence, and the budget is the number of "
        "reward evaluations (NRE). The base success is the rate at which the policy that an agent starts from succeeds. "
        "What the controls and BaNEL reach on each task stands in [the tasks, measured](../../tasks.md)."
    )
    names = ", ".join(f"`{id}`" for id in BROUGHT)
    brought = f"{names} are made from [a model and data that you bring](../../language_models.md)."
    contents = toctree((id.rpartition("/")[2] for id in SHIPPED), hidden="")
    save(folder / "tasks" / "index.md", f"# Tasks\n\n{about}\n\n{table(header, listed)}\n\n{brought}\n\n{contents}")


def measured_rows() -> dict[str, dict[str, str]]:
    """The rows of docs/tasks.md by the name of their task."""
    rows = (row for _, rows in read_tables((ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")) for row in rows)
    return {row["task"]: {name.strip("`"): cell for name, cell in row.items()} for row in rows if "task" in row}


def page(folder: Path, task: Task, row: dict[str, str], known: dict[str, Any] | None) -> str:
    """One task."""
    id, problem = task.problem.id, task.problem
    name = id.rpartition("/")[2]
    first, rest = summary(importlib.import_module(SHIPPED[id].partition(":")[0]).__doc__ or "")
    facts = [
        ("id", f"`{id}`"),
        ("family", row.get("family", "")),
        ("tokens to choose from, V", f"{problem.V}: {vocabulary(problem.vocabulary)}"),
        ("longest sequence, T", str(problem.T)),
        ("end token", "none, every sequence has T tokens" if problem.end is None else "yes"),
        ("budget, in reward evaluations", f"{problem.budget:,}"),
        ("base success, log10", base_in_words(known)),
        ("successes", row.get("successes") or "not enumerated; rates are estimated"),
    ]
    if known and known["base"].get("effective"):
        facts.append(("effective number of successes", f"{known['base']['effective']:,.1f}"))
    parts = [f"# {name}", escaped(first), table(("", ""), facts), picture(folder, task)]
    if task.negative_control:
        parts.append(f"```{{note}}\nThis task is a negative control: {escaped(task.negative_control)}.\n```")
    if row:
        parts.append(controls(folder, name, row))
    if name.startswith("AdditionAttack"):
        parts.append("![Success against evaluations on the addition attack](../../addition.png)")
    parts += ["## In detail", prose(rest), usage(id)]
    return "\n\n".join(part for part in parts if part)


def vocabulary(words: tuple[str, ...] | int) -> str:
    """The tokens, the first ones if there are many; nothing more where only their number is known."""
    if isinstance(words, int):
        return "printed by a decoder"
    shown = " ".join(f"`{word}`" for word in words[:32] if "`" not in word and word.strip())
    return shown + (" and more" if len(words) > 32 else "")


def base_in_words(known: dict[str, Any] | None) -> str:
    """A measured base success rate in log10, with its limits where it is estimated."""
    if known is None:
        return "not measured"
    base = known["base"]
    number = "" if base["log10"] is None else f"{base['log10']:.3f}"
    if base["method"] == "exact":
        return f"{number or 'zero'} (exact)"
    low = "−∞" if base["low"] is None else f"{base['low']:.2f}"
    return f"{number} [{low}, {base['high']:.2f}] (estimated)".strip()


def picture(folder: Path, task: Task) -> str:
    """A known success as a person sees it, or a sample of the base policy where the success needs data that is not here."""
    problem, what = task.problem, "A success"
    try:
        tokens = task.witness()
    except BanelError:
        tokens, what = None, "A sample of the base policy (the successes need data that is not shipped)"
    if tokens is None:
        tokens = problem.base_policy().sample(1, np.random.default_rng(0))[0]
    if problem.image is None:
        return f"## {what}\n\n```text\n{problem.render(tokens)}\n```"
    name = f"{problem.id.rpartition('/')[2]}.png"
    save_image(folder / name, problem.image(np.asarray(tokens)))
    text = problem.render(tokens)
    caption = "" if "\n" in text else f"\n\n{escaped(text)}"
    return (
        f"## {what}\n\n```{{image}} {name}\n:alt: {what} of {problem.id}\n:class: pixels\n:width: 320px\n```{caption}"
    )


def save_image(path: Path, image: Any) -> None:
    """Write a picture [height, width, 3], small ones with each pixel as a square that can be seen."""
    from matplotlib.image import imsave

    pixels = np.asarray(image)
    scale = max(1, 320 // max(pixels.shape[:2]))
    imsave(path, pixels.repeat(scale, axis=0).repeat(scale, axis=1))


def controls(folder: Path, name: str, row: dict[str, str]) -> str:
    """What the controls and BaNEL reach: a figure and the table behind it."""
    rates = {label: numbers(row.get(label, "")) for label in RATES}
    draw_rates(folder / f"{name}-rates.svg", rates)
    rows = [(f"`{label}`", row.get(label) or "–", MEANING[label]) for label in RATES]
    about = "Success rates in log10 after the whole budget: the median over the seeds, and the range in brackets."
    note = f"\n\n{row['notes'][0].upper()}{row['notes'][1:]}." if row.get("notes") else ""
    figure = f"![Success rates on {name}]({name}-rates.svg)"
    return f"## What is reached\n\n{about}{note}\n\n{figure}\n\n{table(('who', 'log10 success', 'what it is'), rows)}"


def numbers(cell: str) -> list[float]:
    """The numbers in a cell such as `-2.47 [-2.50, -2.41]`."""
    return [float(found) for found in re.findall(r"[-−]?\d+(?:\.\d+)?", cell.replace("−", "-"))]


def usage(id: str) -> str:
    """How to step it and how to run an agent on it."""
    return (
        f'## Use it\n\n```python\nimport gymnasium as gym\n\nenv = gym.make("banel_envs:{id}")\n```\n\n'
        f"```bash\nbanel run --task {id} --agent banel --seeds 0-4 --out out\n```"
    )
