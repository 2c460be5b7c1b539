"""Gymnasium environments over a task: one copy, many copies, and the doors to Stable-Baselines3."""
