"""Speed, measured: `python -m benchmarks.speed`."""
