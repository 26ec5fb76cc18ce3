"""scheduler.core of Trimtab."""
