"""python -m banel_leaderboard.worker ORDER: one run in a process of its own, started by the sweep."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

from banel_envs.errors import AnswersPending, BanelError
from banel_leaderboard.harness import execute
from banel_leaderboard.lookup import allow_own_modules
from banel_leaderboard.spec import Spec

WAITING = os.EX_TEMPFAIL  # 75: answers of an external oracle are missing; try again


def main() -> int:
    """Run one order; 0 done, 75 waiting for answers, 2 refused, with one line on stderr."""
    order = json.loads(sys.argv[1])
    end_with_parent()
    try:
        spec = Spec(**order["spec"])
        allow_own_modules([spec.task, spec.agent])
        execute(spec, Path(order["out"]), isolate=order["isolate"])
    except BanelError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
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
