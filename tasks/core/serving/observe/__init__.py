"""Watching a deployment: its status, what is wrong with it, and what repairs it."""
