"""The experiments behind docs/findings.md: one resumable command each."""
