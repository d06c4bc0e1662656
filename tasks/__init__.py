"""The stages of the lifecycle: one thin Prefect task each, over the pure code in `tasks.core`."""
