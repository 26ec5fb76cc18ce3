"""Device types and prices that are known: the planner's own and the user's."""
