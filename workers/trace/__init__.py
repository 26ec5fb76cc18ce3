"""Measures an unknown model by running its module on tensors without data."""
