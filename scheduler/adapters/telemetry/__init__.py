"""Adapters of telemetry."""
