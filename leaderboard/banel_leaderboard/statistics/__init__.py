"""Statistics over runs: pure functions of arrays and a Generator."""
