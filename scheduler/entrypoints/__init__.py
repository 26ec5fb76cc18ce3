"""scheduler.entrypoints of Trimtab."""
