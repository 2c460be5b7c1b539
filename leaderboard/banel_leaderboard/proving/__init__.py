"""What can be proved of a run: held against its ledger, computed again, or replayed."""
