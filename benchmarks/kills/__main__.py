"""Runs killed at random moments: `python -m benchmarks.kills --runs 200` prints what came of them, exit 1 if any is wrong.

Every run is a worker process as the sweep makes it, of a tiny task of its own: forked where that is possible; with --cold
every process is started anew. One uninterrupted run of each agent and seed is the reference. Then each run is killed with
SIGKILL one to three times: at a moment uniform over what is left of the reference's time since learning began, or by
itself amid the write of a line of its ledger, any share of the line being on the disk. It is resumed by the same command
and at last finished. The reward is its own witness: it
appends each batch to a file before it answers, and what stands there is held against the ledger after every kill. With
--isolate the agent is in a process of its own; with --rows-at-once K the reward is called on at most K rows.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.kills.plan import SPECS, WRONG, kills, report


def main() -> int:
    """Parse, run and print; 1 if any run is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="runs to kill (default 200)")
    parser.add_argument(
        "--agents", nargs="+", choices=SPECS, default=list(SPECS), help="agents in turn; all by default"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first runs and of the kills (default 0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once (default 1)")
    parser.add_argument("--isolate", action="store_true", help="agents in processes of their own")
    parser.add_argument(
        "--rows-at-once", type=int, help="rows that the reward is called on (default: the whole question)"
    )
    parser.add_argument("--cold", action="store_true", help="start every process anew, and fork none")
    options = parser.parse_args()
    how = {"isolate": options.isolate, "rows_at_once": options.rows_at_once, "warm": not options.cold}
    tally = kills(options.runs, options.agents, options.seed, jobs=options.jobs, **how)
    print(report(tally))
    return int(any(tally[name] for name in WRONG))


if __name__ == "__main__":
    sys.exit(main())
