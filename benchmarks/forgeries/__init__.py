"""Forged run folders, and what the checks find: `python -m benchmarks.forgeries`."""
