"""python -m banel_leaderboard: the `banel` command where its script is not on the path."""

import sys

from banel_leaderboard.cli import main

if __name__ == "__main__":
    sys.exit(main())
