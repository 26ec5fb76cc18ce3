"""Adapters that run the planner."""
