"""The steps of a check, from (a) to (h), and what they find."""
