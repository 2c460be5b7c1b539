"""Agents with a bonus for what is new."""
