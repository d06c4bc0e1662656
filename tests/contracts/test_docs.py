from pathlib import Path

from tests.contracts.recipe_doc import render

ROOT = Path(__file__).parents[2]


def test_recipe_page_is_made_from_the_code() -> None:
    written = (ROOT / "docs" / "recipe.md").read_text()
    assert written == render(), "python -m tests.contracts.recipe_doc > docs/recipe.md"
