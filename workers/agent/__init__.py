"""The agent: one process per node of an attempt. It claims the attempt, starts its ranks, watches, reports, and ends them all."""
