"""An agent that looks for the reward in its own process; its module imports nothing that leads there."""

from __future__ import annotations

import gc
import sys
from types import FunctionType

from banel_envs import Oracle, Task


class Snoops:
    name = "snoops"
    Config = type(None)
    config = None

    def learn(self, problem, oracle, rng):
        yield problem.base_policy()
        things = gc.get_objects()
        self.reported = {
            "tasks": sum(type(thing) is Task for thing in things),
            "oracles": sum(type(thing) is Oracle for thing in things),
            "rewards": sum(type(thing) is FunctionType and thing.__name__ == "judge" for thing in things),
            "modules": sum(name.endswith("harness_tasks") for name in sys.modules),
        }
        oracle([[3, 3, 3]])
        yield problem.base_policy()
