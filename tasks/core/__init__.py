"""The work itself, in plain Python. Nothing here imports Prefect, a flow or a task module."""
