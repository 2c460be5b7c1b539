"""The table of tasks, see table.py: `python -m benchmarks.tasks --out DIR`."""

from __future__ import annotations

from benchmarks.tasks.table import main

if __name__ == "__main__":
    main()
