"""A recipe as YAML with a comment for every field."""

import re
from pathlib import Path

import pytest

from tasks.core.recipe import KAWAN_USAHA, Recipe
from tasks.core.recipe.annotated import annotated
from tasks.core.recipe.file import find_recipe, load_recipe, parsed, recipe_names
from tests.recipe_fields import fields_below

NAMED = [*recipe_names()]
_FIELD = re.compile(r"^(?P<margin>[ #]*)(?:- )?(?P<name>[a-z_0-9]+):")


def from_text(text: str, directory: Path) -> Recipe:
    path = directory / "recipe.yaml"
    path.write_text(text)
    return load_recipe(path)


@pytest.mark.parametrize("name", NAMED)
def test_it_loads_as_the_recipe_that_it_was_made_from(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(find_recipe(name))
    assert from_text(annotated(recipe), tmp_path) == recipe


def test_a_recipe_of_the_program_survives_as_well(tmp_path: Path) -> None:
    for recipe in (KAWAN_USAHA, Recipe()):
        assert from_text(annotated(recipe), tmp_path) == recipe


def test_several_sources_with_short_forms_survive(tmp_path: Path) -> None:
    recipe = from_text(
        "finetune: {data: [a.json, {directory: 'my: files', weight: 2}], lora: {}, "
        "language: null, seed: 7}\n"
        "edit: {activations: [{layers: all}, {}]}\n"
        "base: {directory: /m}\n"
        "deploy: {page: {}}\n",
        tmp_path,
    )
    assert from_text(annotated(recipe), tmp_path) == recipe


@pytest.mark.parametrize("name", NAMED)
def test_every_field_stands_in_it_below_a_comment_of_its_own(name: str) -> None:
    lines = annotated(load_recipe(find_recipe(name))).splitlines()
    infos = dict(fields_below(Recipe))
    titles = {path.rpartition(".")[2]: set[str]() for path in infos}
    for path, info in infos.items():
        titles[path.rpartition(".")[2]].add(str(info.title))
    seen = set[str]()
    for at, line in enumerate(lines):
        match = _FIELD.match(line)
        if match is None or match["name"] not in titles:
            continue
        start = at - 1
        while start and not any(f"# {title}: " in lines[start] for title in titles[match["name"]]):
            assert "#" in lines[start], f"no comment above {line!r}"
            start -= 1
        seen.add(match["name"])
    unlisted = {p.rpartition(".")[2] for p in infos if p.startswith("deploy.workers.")} - seen
    assert set(titles) - seen == unlisted  # of an empty list the comment names the fields
    assert all(name in "\n".join(lines) for name in unlisted)


def test_what_is_commented_out_is_yaml_with_known_fields() -> None:
    known = {path for path, _ in fields_below(Recipe)}
    lines = annotated(Recipe()).splitlines()
    once = "\n".join(re.sub(r"^# ", "", line) for line in lines if not re.match(r"# [A-Z]", line))
    without_words = "\n".join(line for line in once.splitlines() if "#" not in line)
    content = parsed(_of_fields(without_words), "uncommented")
    assert isinstance(content, dict)
    assert {path for path in _paths(content) if path not in known} == set()
    assert "publish.accept_license" in set(_paths(content))


def _of_fields(text: str) -> str:
    """Leave out what is left of wrapped comments at the top level."""
    names = tuple(f"{name}:" for name in Recipe.model_fields)
    return "\n".join(line for line in text.splitlines() if line.startswith((" ", *names)))


def _paths(content: object, path: str = "") -> list[str]:
    if isinstance(content, list):
        return [each for item in content for each in _paths(item, path)]
    if not isinstance(content, dict):
        return []
    found = []
    for name, value in content.items():
        below = f"{path}.{name}" if path else name
        found += [below, *_paths(value, below)]
    return found


def test_a_default_that_the_recipe_changes_is_named_in_the_comment() -> None:
    text = annotated(KAWAN_USAHA)
    assert "Total processes: one per GPU, across all machines. Default: 1." in text
