"""The planner: models, devices, strategies, costs and the optimisation model. Pure: no network, no clock, no torch."""
