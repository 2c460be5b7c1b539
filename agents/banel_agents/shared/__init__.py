"""Code that several agents use."""
