"""One run: an agent asks the oracle, and its policies are measured at the NREs of the grid."""
