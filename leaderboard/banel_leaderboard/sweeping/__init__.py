"""Many runs: which of them to make, in what order, and in which processes."""
