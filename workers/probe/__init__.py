"""Measures the devices of this machine: kernels, collectives and fixed costs (``python -m workers.probe``)."""
