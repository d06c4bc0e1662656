"""What all commands that write a model directory have in common."""

from pathlib import Path

from tasks.core.home import code_version
from tasks.core.weights.companion_kinds import left_behind
from tasks.core.weights.companions import file_names


def work_identity(command: str, *, inputs: object, settings: object = None) -> dict[str, object]:
    """Return what a command's result depends on; only the same work may resume its staging."""
    return {"command": command, "inputs": inputs, "settings": settings, "code": code_version()}


def adapter_files(*models: Path) -> tuple[str, ...]:
    """Return the files of an adapter that lies in the directory of a model and is no part of it."""
    return tuple(name for model in models for name in left_behind(file_names(model)))
