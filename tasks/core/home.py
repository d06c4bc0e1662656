"""Where everything that is built and run lives on this machine."""

import os
from pathlib import Path

ENVIRONMENT_VARIABLE = "KAWAN_USAHA_HOME"


def home() -> Path:
    """Return the absolute home directory: KAWAN_USAHA_HOME, or ~/.kawan-usaha."""
    return Path(os.environ.get(ENVIRONMENT_VARIABLE) or Path.home() / ".kawan-usaha").absolute()
