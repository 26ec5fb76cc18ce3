"""scheduler.adapters of Trimtab."""
