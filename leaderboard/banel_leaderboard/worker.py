"""python -m banel_leaderboard.worker ORDER: one run in a process of its own, started by the sweep."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from banel_envs.errors import AnswersPending, BanelError
from banel_leaderboard.harness import execute
from banel_leaderboard.spec import Spec

WAITING = os.EX_TEMPFAIL  # 75: answers of an external oracle are missing; try again


def main() -> int:
    """Run one order; 0 done, 75 waiting for answers, 2 refused, with one line on stderr."""
    order = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    try:
        execute(Spec(**order["spec"]), Path(order["out"]), isolate=order["isolate"])
    except AnswersPending as error:
        print(error, file=sys.stderr)
        return WAITING
    except BanelError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
