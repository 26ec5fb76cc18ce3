"""Measured runs, kept: a file of the state folder, or memory."""
