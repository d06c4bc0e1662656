"""A run with nothing new does nothing: it loads no engine, reads no weights, and says so."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from tasks.core.recipe import Recipe

pytestmark = pytest.mark.usefixtures("prefect", "preforked_children")

ENGINES = ("torch", "transformers", "peft", "deepspeed", "matplotlib")

RUN = f"""
import json, os, sys
weights = []
def note(event, arguments):
    name = str(arguments[0]) if event == "open" else ""
    if name.startswith(os.environ["KAWAN_USAHA_HOME"]) and name.endswith(".safetensors"):
        weights.append(name)
sys.addaudithook(note)
from flows.lifecycle import rebuild
from tasks.core.recipe import Recipe
recipe = Recipe.model_validate_json(sys.argv[1])
state = rebuild(recipe, until=sys.argv[2], return_state=True)
print("told:", json.dumps({{
    "engines": [name for name in {ENGINES} if name in sys.modules],
    "weights": weights,
    "message": state.message,
}}))
"""


def python(script: str, *arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())},
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_run_with_nothing_new_loads_no_engine_and_reads_no_weights(
    recipe: Recipe, built_home: Path
) -> None:
    said = python(RUN, recipe.model_dump_json(), "gate")
    told = json.loads(next(line for line in said.splitlines() if line.startswith("told:"))[6:])
    assert told["engines"] == []
    assert told["weights"] == []
    assert told["message"].startswith("Nothing new: every stage was cached.")
