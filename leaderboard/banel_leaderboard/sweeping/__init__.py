"""Many runs: which to make, in what order, and in which processes."""
