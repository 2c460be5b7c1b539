"""A submission: what is handed in, how it is checked, and how it is tried again on fresh seeds."""
