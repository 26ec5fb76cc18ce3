"""A simulated cluster: who really runs, apart from what any table says."""
