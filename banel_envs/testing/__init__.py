"""check_task, check_policy: the contracts of tasks and policies, for this package's tests and for third parties.

    from banel_envs.testing import check_task
    check_task(my_task)  # raises ContractBroken, naming what broke and where

Frequencies are compared with probabilities by Clopper-Pearson intervals so wide that a sound policy fails once in a
million checks.
"""

from banel_envs.errors import ContractBroken
from banel_envs.testing.policies import check_has, check_policy, sequences
from banel_envs.testing.tasks import check_task

__all__ = ["ContractBroken", "check_has", "check_policy", "check_task", "sequences"]
