"""Runs on a real Prefect server and worker that are struck, and what comes of them."""
