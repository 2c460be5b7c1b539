"""The meter: the oracle counts every sequence that it answers, and the ledger keeps it."""
