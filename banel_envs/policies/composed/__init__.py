"""Policies that are made of other policies: at a temperature, mixed, without a set, filtered by a ratio, guided."""
