"""Watching a deployment: questions to its processes, what is amiss, and what heals it."""
