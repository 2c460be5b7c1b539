"""BaNEL's posterior on a line, round by round: `python -m benchmarks.tasks.gaussian1d [--out docs/gaussian1d.png] [--seed 0]`.

Runs BaNEL with its defaults on Gaussian1D-v0, from failures alone, and draws what can be seen because all 1,000 cells
can be listed, in bins of ten: p_theta after each round beside the base policy (above); the ratio p_theta / p_phi by
which that round filtered, its threshold tau, and in grey where most of the mass is rejected (below); the rewards in
green. Prints the exact success rate after every round. BaNEL's posterior ends on one of the two rewards, not on both.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from banel_agents.failure_model.banel import BaNEL, BaNELConfig
from banel_agents.shared.distil import Floats, threshold
from banel_envs import TASKS, Oracle, success_rate
from banel_envs.policies import Policy, Trainable
from banel_envs.problem import Tokens
from banel_envs.tasks.gaussian1d import CELLS, HIGH, LOW, REACH, TARGETS, WIDTH, encode

TASK = "banel/Gaussian1D-v0"
LINE = encode(np.arange(CELLS))
BIN = 10  # cells summed for the eye
EDGES = np.linspace(LOW, HIGH, CELLS // BIN + 1)
FLOOR = 1e-4  # density below which nothing is drawn
INK, BLUE, GREEN = "#333333", "#4a7ab8", "#2e8b57"


@dataclass
class Round:
    """What BaNEL filters by in one round."""

    theta: Policy  # p_theta, whose samples were asked
    phi: Policy  # fitted to those that failed
    log_tau: float


class Watched(BaNEL):
    """BaNEL, its rounds kept."""

    def __init__(self, config: BaNELConfig | None = None) -> None:
        super().__init__(config)
        self.rounds: list[Round] = []

    def _failure_model(
        self, base: Trainable, theta: Trainable, failures: Tokens, rng: np.random.Generator
    ) -> Trainable:
        phi = super()._failure_model(base, theta, failures, rng)
        self.rounds.append(Round(theta, phi, 0.0))
        return phi

    def _choose(self, candidates: Tokens, scores: Floats) -> tuple[Tokens, Floats | None]:
        self.rounds[-1].log_tau = threshold(scores, self.config.f)
        return super()._choose(candidates, scores)


def learn(
    seed: int, budget: int | None = None, config: BaNELConfig | None = None
) -> tuple[list[Policy], list[float], list[Round]]:
    """The policies after each round, the base policy first, their exact log10 success rates, and what was filtered by."""
    task, agent = TASKS[TASK], Watched(config)
    oracle = Oracle(task, feedback="failures", budget=budget)
    policies = list(agent.learn(task.problem, oracle, np.random.default_rng(seed)))
    rates = [success_rate(task, policy).log10 for policy in policies]
    return policies, [-np.inf if rate is None else rate for rate in rates], agent.rounds


def binned(log_probs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mass in each bin of BIN cells: a network's cells are ragged one by one, their sums are not."""
    mass: NDArray[np.float64] = np.exp(log_probs).reshape(-1, BIN).sum(axis=1)
    return mass


def spread(n: int, k: int) -> list[int]:
    """At most k of the rounds 1..n, evenly, the last among them."""
    return sorted({max(1, round(n * (i + 1) / k)) for i in range(k)})


def draw(policies: list[Policy], rates: list[float], rounds: list[Round], out: Path) -> None:
    """One column a round: the posterior above, what its filter rejected below."""
    shown = spread(len(rounds), 5)
    figure = Figure((2.5 * len(shown), 4.1), layout="constrained")
    axes = figure.subplots(2, len(shown), sharex=True, sharey="row", height_ratios=(3, 2), squeeze=False)
    for (above, below), k in zip(axes.T, shown, strict=True):
        above.set_title(f"round {k}", fontsize=10)
        _posterior(above, policies[0], policies[k], rates[0], rates[k])
        _rejection(below, rounds[k - 1])
    axes[0, 0].set_ylabel("density")
    axes[1, 0].set_ylabel(r"$\log\,(p_\theta\,/\,p_\phi)$")
    handles, labels = axes[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=8)
    figure.savefig(out, dpi=150, metadata={"Software": None})


def _posterior(axis: Axes, base: Policy, policy: Policy, before: float, now: float) -> None:
    length = BIN * WIDTH
    shape: dict[str, Any] = {"baseline": FLOOR, "zorder": 2}
    axis.stairs(
        binned(policy.log_prob(LINE)) / length,
        EDGES,
        fill=True,
        color=BLUE,
        alpha=0.75,
        label=rf"$p_\theta$, success {10**now:.2g}",
        **shape,
    )
    axis.stairs(
        binned(base.log_prob(LINE)) / length, EDGES, color=INK, label=f"base, success {10**before:.2g}", **shape
    )
    axis.set_yscale("log")
    axis.set_ylim(FLOOR, 200)
    axis.legend(frameon=False, fontsize=8, loc="upper center", handlelength=1.2, labelspacing=0.2)
    _plain(axis)


def _rejection(axis: Axes, found: Round) -> None:
    theta, phi = found.theta.log_prob(LINE), found.phi.log_prob(LINE)
    rejected = binned(np.where(theta - phi < found.log_tau, theta, -np.inf)) / binned(theta)
    axis.stairs(
        rejected > 0.5,
        EDGES,
        fill=True,
        color="0.88",
        transform=axis.get_xaxis_transform(),
        label="rejected by the filter",
    )
    axis.stairs(np.log(binned(theta) / binned(phi)), EDGES, color=BLUE, linewidth=1, baseline=None)
    axis.axhline(found.log_tau, color=INK, linewidth=0.8, linestyle=":", label=r"$\log\,\tau$")
    axis.set_ylim(-4, 4)
    axis.set_xlabel("$x$")
    axis.set_xlim(LOW, HIGH)
    _plain(axis)


def _plain(axis: Axes) -> None:
    for target in TARGETS:
        label = "reward" if target == TARGETS[0] else None
        axis.axvspan(target - REACH, target + REACH, color=GREEN, alpha=0.5, linewidth=0, zorder=1, label=label)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.set_xticks(range(-4, 5, 2))


def main() -> None:
    """Print the rates and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/gaussian1d.png"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    policies, rates, rounds = learn(options.seed)
    print(f"{'round':>5}{'log10 success':>15}{'success':>10}")
    for k, rate in enumerate(rates):
        print(f"{k:>5}{rate:>15.3f}{10**rate:>10.2e}")
    draw(policies, rates, rounds, options.out)
    print(f"drawn to {options.out}")


if __name__ == "__main__":
    main()
