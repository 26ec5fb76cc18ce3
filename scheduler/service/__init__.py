"""scheduler.service of Trimtab."""
