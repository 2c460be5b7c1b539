"""Runs killed at random moments, resumed, and compared with runs that were not."""
