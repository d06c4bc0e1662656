"""Where everything lives on this machine: what is built and run, and the project itself."""

import os
from pathlib import Path

ENVIRONMENT_VARIABLE = "KAWAN_USAHA_HOME"
PROJECT = Path(__file__).parents[2]
"""The root of the project, from which its child processes import it."""


def home() -> Path:
    """Return the absolute home directory: KAWAN_USAHA_HOME, or ~/.kawan-usaha."""
    return Path(os.environ.get(ENVIRONMENT_VARIABLE) or Path.home() / ".kawan-usaha").absolute()
