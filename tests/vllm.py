"""The marks of a test that needs the real vLLM, which `make vllm` installs."""

import os

import pytest

from tasks.core.errors import RecipeError
from tasks.core.serving.engines.vllm_environment import vllm_python

try:
    vllm_python(os.environ)
    _WHY_NOT = ""
except RecipeError as error:
    _WHY_NOT = str(error.what)

NEEDS_VLLM = [
    pytest.mark.vllm,
    pytest.mark.skipif(bool(_WHY_NOT), reason=f"{_WHY_NOT} make vllm"),
]
