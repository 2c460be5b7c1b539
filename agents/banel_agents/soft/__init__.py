"""Agents whose policy approaches a stated distribution: the base policy, reweighted by what is known of success and failure."""
