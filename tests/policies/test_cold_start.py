"""What makes a process start slowly is not imported: torch._dynamo, and PyTorch itself where nothing is computed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from banel_envs.policies.gradient_step import Adam, descend
from banel_envs.policies.networks.unwritten import unwritten


def loaded(code: str, *modules: str) -> list[str]:
    """Which of the modules a new process has loaded after this code."""
    said = f"import sys\n{code}\nprint(*(m for m in {modules!r} if m in sys.modules))"
    return subprocess.run([sys.executable, "-c", said], check=True, capture_output=True, text=True).stdout.split()


BASE = "import banel_envs\npolicy = banel_envs.TASKS['banel/{}-v0'].problem.base_policy()\n"


@pytest.mark.parametrize("task", ["AdditionAttack", "ZeroToSix"])  # a transformer and a recurrent network
def test_a_base_policy_is_read_and_trained_without_dynamo(task: str) -> None:
    train = (
        "import os\nos.environ['BANEL_KERNEL'] = 'torch'\n"
        "from banel_envs.policies.training import Trainer\nimport numpy as np\n"
        "Trainer(policy, 1e-3).step(policy.sample(2, np.random.default_rng(0)))"
    )
    assert loaded(BASE.format(task) + train, "torch", "torch._dynamo") == ["torch"]


@pytest.mark.parametrize(
    "code",
    [
        "import banel_leaderboard.sweeping.sweep, banel_leaderboard.sweeping.worker",
        "from banel_agents import make_agent\nfor name in ('base', 'memorise', 'tempered', 'count', 'banel'): make_agent(name)",
    ],
)
def test_nothing_that_computes_nothing_loads_torch(code: str) -> None:
    assert loaded(code, "torch") == []


def test_adam_is_that_of_torch_to_the_last_bit() -> None:
    def trained(make: type) -> list[torch.Tensor]:
        rng = np.random.default_rng(0)
        network = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3))
        unused = torch.nn.Parameter(torch.ones(2))
        with torch.no_grad():
            for weight in network.parameters():
                weight.copy_(torch.from_numpy(rng.normal(size=tuple(weight.shape))))
        optimiser = make([*network.parameters(), unused], lr=3e-3)
        for _ in range(20):
            descend(optimiser, network(torch.from_numpy(rng.normal(size=(4, 5))).float()).pow(2).mean())
        return [*network.parameters(), unused]

    def of_torch(weights: list[torch.Tensor], lr: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(weights, lr=lr, fused=True)

    assert all(map(torch.equal, trained(Adam), trained(of_torch)))  # type: ignore[arg-type]


def test_an_unwritten_network_draws_nothing_and_has_no_memory() -> None:
    before = torch.get_rng_state()
    with unwritten():
        layers = [torch.nn.Embedding(3, 4), torch.nn.Linear(3, 4), torch.nn.GRU(3, 4)]
    assert all(weight.is_meta for layer in layers for weight in layer.parameters())
    assert torch.equal(before, torch.get_rng_state())
