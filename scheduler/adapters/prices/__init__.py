"""Adapters of the price book."""
