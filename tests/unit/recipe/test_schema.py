"""The JSON schema of a recipe: what the program takes, and none of the usual mistakes."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tasks.core.recipe.file import RECIPES, load_recipe
from tasks.core.recipe.schema import DIALECT, recipe_schema

SCHEMA = recipe_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def is_accepted(text: str) -> bool:
    return VALIDATOR.is_valid(yaml.safe_load(text))


def test_it_is_a_valid_schema_of_its_dialect() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == DIALECT


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_of_the_project_is_accepted(path: Path) -> None:
    assert is_accepted(path.read_text())


@pytest.mark.parametrize(
    "text",
    [
        "finetune: {data: a.json}",
        "finetune: {data: [a.json, {repo: owner/name}]}",
        "finetune: {data: {directory: /d, weight: 0.5}}",
        "edit: {activations: [{layers: -1}]}",
        "edit: {activations: [{layers: '0:4'}, {layers: [0, all]}]}",
        "deploy: {page: null, collect: {retention_days: 7}}",
        "finetune: {lora: {target_modules: all-linear}, max_steps: null}",
    ],
)
def test_what_the_program_takes_is_accepted(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    load_recipe(tmp_path / "r.yaml")
    assert is_accepted(text)


@pytest.mark.parametrize(
    "text",
    [
        "nmae: x",
        "finetune: {epoch: 2}",
        "finetune: {lora: {rank: 8}}",
        "evaluate: {gate: {max_perplexty: 2}}",
        "finetune: {data: [{fil: a.json}]}",
        "finetune: {epochs: many}",
        "finetune: {epochs: 0}",
        "finetune: {zero_stage: 1}",
        "finetune: {data: 7}",
        "deploy: {engine: vlm}",
        "deploy: {gateway: {port: 80}}",
        "edit: {rope_scaling: {}}",
        "base: llama",
        "[]",
    ],
)
def test_a_typo_a_wrong_type_and_a_wrong_value_are_refused(text: str) -> None:
    assert not is_accepted(text)


def test_no_part_takes_unknown_fields() -> None:
    parts: Any = [SCHEMA, *SCHEMA["$defs"].values()]
    assert [part["title"] for part in parts if part["additionalProperties"] is not False] == []
