"""`python -m benchmarks.forgeries`: see trial.py."""

import sys

from benchmarks.forgeries.trial import main

if __name__ == "__main__":
    sys.exit(main())
