"""What can be proved about a run: its record is compared with its ledger, its numbers are computed again, it is replayed."""
