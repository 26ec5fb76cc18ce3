"""The background control process: its start, its end and who it is."""
