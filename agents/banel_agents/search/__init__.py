"""Search: agents that look for many different successes, and learn from those that they are told."""
