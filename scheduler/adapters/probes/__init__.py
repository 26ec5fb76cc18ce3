"""Adapters of the probe shelf."""
