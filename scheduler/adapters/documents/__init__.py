"""Documents that people write, read from files."""
