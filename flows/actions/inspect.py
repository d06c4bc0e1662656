"""Inspect a model."""

from flows.actions.local_models import local_model
from tasks.core.architecture.inspection import ModelInspection, inspect_model


def inspect_local(model: str) -> ModelInspection:
    """Return what a directory, or a repository after its download, contains."""
    with local_model(model) as path:
        return inspect_model(path)
