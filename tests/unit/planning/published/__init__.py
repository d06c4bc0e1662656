"""What others published and what was measured here, each figure computed again by the planner."""
