"""Adapters of the state store."""
