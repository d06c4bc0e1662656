"""The directories on this machine: of everything built and run, and of the project itself."""

import hashlib
import os
from functools import cache
from pathlib import Path

HOME_VARIABLE = "KAWAN_USAHA_HOME"
PROJECT = Path(__file__).parents[2]
"""The directory that `flows` and `tasks` lie in, from which child processes import them.

The root of a checkout; site-packages once the project is installed from a wheel.
"""

_IN_A_WHEEL = PROJECT / "tasks" / "bundled"
RESOURCES = _IN_A_WHEEL if _IN_A_WHEEL.is_dir() else PROJECT
"""The directory that holds `data/` and `prefect.yaml`: a wheel brings a copy of both."""


def home() -> Path:
    """Return the absolute home directory: KAWAN_USAHA_HOME, or ~/.kawan-usaha."""
    return Path(os.environ.get(HOME_VARIABLE) or Path.home() / ".kawan-usaha").absolute()


@cache
def code_version() -> str:
    """Return the digest of this project's sources: any change to them may change its outputs."""
    content = hashlib.sha256()
    for path in sorted((PROJECT / "tasks").rglob("*.py")):
        content.update(str(path.relative_to(PROJECT)).encode() + b"\0" + path.read_bytes())
    return content.hexdigest()
