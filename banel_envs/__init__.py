"""banel-envs: sparse-reward generation tasks as Gymnasium environments with metered oracle calls.

Importing registers the task ids with Gymnasium and loads nothing heavier than NumPy.
"""

from typing import TYPE_CHECKING, Any

from banel_envs.environments.as_sb3 import as_sb3_vec_env
from banel_envs.environments.env import GenerationEnv
from banel_envs.environments.vector import GenerationVectorEnv
from banel_envs.errors import BanelError, BudgetExhausted, MissingExtra, SeveralBudgets
from banel_envs.measure.success import SuccessRate, success_rate
from banel_envs.meter.file_reward import FileReward
from banel_envs.meter.ledger import Ledger
from banel_envs.meter.oracle import Oracle
from banel_envs.problem import Problem
from banel_envs.task import TASKS, Task, register_task
from banel_envs.tasks import BROUGHT, SHIPPED
from banel_envs.version import __version__

if TYPE_CHECKING:
    from banel_envs.environments.sb3 import StopAtBudget as StopAtBudget

for _id, _builder in SHIPPED.items():
    register_task(_id, _builder)
for _id, _builder in BROUGHT.items():
    register_task(_id, _builder, brought=True)

__all__ = [
    "TASKS",
    "BanelError",
    "BudgetExhausted",
    "FileReward",
    "GenerationEnv",
    "GenerationVectorEnv",
    "Ledger",
    "Oracle",
    "Problem",
    "SeveralBudgets",
    "SuccessRate",
    "Task",
    "__version__",
    "as_sb3_vec_env",
    "register_task",
    "success_rate",
]


def __getattr__(name: str) -> Any:
    """StopAtBudget, loaded with Stable-Baselines3 when it is first asked for."""
    if name != "StopAtBudget":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from banel_envs.environments.sb3 import StopAtBudget
    except ModuleNotFoundError as error:
        raise MissingExtra("StopAtBudget needs stable-baselines3: pip install 'banel-envs[agents]'") from error
    return StopAtBudget
