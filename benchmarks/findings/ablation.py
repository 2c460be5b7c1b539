"""What BaNEL's settings do, from failures only: `python -m benchmarks.findings.ablation --out runs.jsonl --plot ablation.svg`.

Each variant changes the defaults of `banel` in one respect; `weights` is `soft_banel`, which has the same rounds and weighs the
candidates in place of filtering them. The paper's filter factors are 2 (on the addition attack) and 1.032 (on ZeroToSix).
"""

from __future__ import annotations

from banel_agents import AGENTS
from benchmarks.findings import grid
from benchmarks.findings.grid import Variant

VARIANTS = {
    "default": Variant("banel", {}),
    "f = 2 (paper)": Variant("banel", {"f": 2.0}),
    "f = 1.032 (paper)": Variant("banel", {"f": 1.032}),
    "p_phi from new weights": Variant(
        "banel", {"phi_init": "fresh", "phi_epochs": 20.0}
    ),  # 5 epochs leave it untrained
    "p_phi on all failures": Variant("banel", {"phi_data": "all"}),
    "malformed kept": Variant("banel", {"well_formed": False}),
    # Regions need p_phi of the base policy, and what 15 rounds leave of them, some f^-15, must be enough to set tau by: f = 3
    # ends in the sixth round, and f = 1.5 leaves 9 of 10,000 proposals in some runs, which BaNEL refuses.
    "regions": Variant("banel", {"form": "regions", "f": 1.25, "phi_init": "base", "phi_data": "all"}),
    "weights": Variant("soft_banel", {}),
}
if "banel_stop" in AGENTS:
    VARIANTS["stopping rule"] = Variant("banel_stop", {})


if __name__ == "__main__":
    title = "BaNEL's settings, from failures only"
    grid.main("python -m benchmarks.findings.ablation", __doc__, VARIANTS, title)
