"""python -m banel_leaderboard.sweeping.worker ORDER: one run in a process of its own, started by the sweep."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

from banel_envs.errors import AnswersPending, BanelError
from banel_envs.visible import terminal
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.running.harness import execute
from banel_leaderboard.running.lookup import allow_own_modules

WAITING = 75  # answers of an external oracle are missing; try again. It is os.EX_TEMPFAIL, a name that Windows lacks.


def main() -> int:
    """Run one order; 0 done, 75 waiting for answers, 2 refused, with one line on stderr."""
    order = json.loads(sys.argv[1])
    end_with_parent()
    try:
        spec = Spec(**order["spec"])
        allow_own_modules([spec.task, spec.agent])
        execute(spec, Path(order["out"]), isolate=order["isolate"])
    except BanelError as error:
        print(terminal(error), file=sys.stderr)
        return WAITING if isinstance(error, AnswersPending) else 2
    return 0


def end_with_parent() -> None:
    """End this process when the command that started it is gone: no run goes on unseen and keeps its ledger locked."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)  # at any instant, as a kill would: the ledger holds what was answered

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
