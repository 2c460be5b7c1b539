"""What the process of a run does, forked (fork_server.py) or started: python -m banel_leaderboard.sweeping.worker ORDER."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from banel_envs.errors import AnswersPending, BanelError
from banel_envs.files.visible import terminal
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.running.lookup import allow_own_modules

# The exit status when answers of an external oracle are missing: run again later. It is os.EX_TEMPFAIL, which Python does
# not define on Windows.
WAITING = 75


def main() -> int:
    """Make the run that the command line orders; the exit status."""
    end_with_parent()
    return work(json.loads(sys.argv[1]))


def work(order: Mapping[str, Any]) -> int:
    """Make one run. Returns 0 if it is done, 75 if answers are missing, and 2 with a line on stderr if it failed."""
    # Imported here, because the command imports this module for WAITING, and computes nothing itself.
    from banel_leaderboard.running.harness import execute

    try:
        spec = Spec(**order["spec"])
        allow_own_modules([spec.task, spec.agent])
        execute(spec, Path(order["out"]), isolate=order["isolate"])
    except BanelError as error:
        print(terminal(error), file=sys.stderr)
        return WAITING if isinstance(error, AnswersPending) else 2
    return 0


def end_with_parent() -> None:
    """End this process when the command that started it has ended.

    Otherwise a run could go on unseen and keep its ledger locked.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)  # this may happen at any instant, like a kill; the ledger holds everything that was answered

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
