"""Finding vLLM, which has an environment of its own because its pins differ from this project's.

The path of its Python is in the variable KAWAN_USAHA_VLLM, else where `make vllm` puts it. Nothing
of it is imported here.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tasks.core.errors import RecipeError
from tasks.core.home import PROJECT

VARIABLE: Final = "KAWAN_USAHA_VLLM"
EXTRA_ARGUMENTS: Final = "KAWAN_USAHA_VLLM_ARGUMENTS"
"""More arguments for vLLM's server, as on a command line; of repeated ones the last counts."""
MADE_BY_MAKE: Final = PROJECT / ".venv-vllm" / "bin" / "python"


def vllm_python(environ: Mapping[str, str]) -> Path:
    """Return the Python that has vLLM. Raises RecipeError without one."""
    named = environ.get(VARIABLE)
    python = Path(named).expanduser() if named else MADE_BY_MAKE
    packages = python.parent.parent / "lib"
    if not os.access(python, os.X_OK) or not any(packages.glob("python3*/site-packages/vllm")):
        raise RecipeError(
            "There is no environment with vLLM on this machine.",
            where="deploy.engine",
            expected=f"a Python with vLLM at {python}",
            found="none",
            next_step="`make vllm` creates one (3.4 GB); to use another one, set the variable "
            f"{VARIABLE} to the path of its python.",
        )
    # Not resolved, or Python would find the packages of the environment behind the link.
    return python.absolute()
