"""Losses that make what failed less likely."""
