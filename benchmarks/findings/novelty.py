"""Gate and KL of the novelty bonuses, crossed: `python -m benchmarks.findings.novelty --out runs.jsonl --plot novelty.svg`.

`count` and `rnd` with and without the gate (malformed sequences get no bonus), each with no KL penalty and with the one
that they had before they were gated, 0.03. `gated, kl 0` is the default of both.
"""

from __future__ import annotations

from benchmarks.findings import grid
from benchmarks.findings.grid import Variant

FORMER_KL = 0.03  # reward units a nat
VARIANTS = {
    f"{agent}, {'gated' if gated else 'open'}, kl {kl:g}": Variant(agent, {"gated": gated, "kl": kl})
    for agent in ("count", "rnd")
    for gated in (True, False)
    for kl in (0.0, FORMER_KL)
}


if __name__ == "__main__":
    title = "Novelty bonuses: gate and KL penalty, from failures only"
    grid.main("python -m benchmarks.findings.novelty", __doc__, VARIANTS, title)
