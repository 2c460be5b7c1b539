"""python -m banel_leaderboard: the `banel` command where its script is not on the path."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # -m puts the working folder first: a file in it that is named like a library would win
    from banel_leaderboard.command.cli import main

    sys.exit(main())
