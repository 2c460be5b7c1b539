"""Gymnasium environments over a task: one copy, many copies, and what connects them to Stable-Baselines3."""
