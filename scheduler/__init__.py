"""scheduler of Trimtab."""
