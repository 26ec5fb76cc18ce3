"""Adapters of the clock."""
