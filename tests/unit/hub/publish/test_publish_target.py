"""Where a recipe may publish to."""

import pytest
from pydantic import ValidationError

from tasks.core.errors import UsageError
from tasks.core.recipe import Publish
from tasks.core.storage.directory import StorageDirectory


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "give either repo or target"),
        ({"repo": "a/b", "target": "out"}, "give either repo or target"),
        ({"target": "s3://key:secret@bucket/models"}, "password has no place"),
        ({"repo": "a b"}, "not a repository name"),
    ],
)
def test_a_target_is_one_place_and_holds_no_secret(fields, complaint):
    with pytest.raises(ValidationError, match=complaint) as refused:
        Publish(**fields)
    assert "secret@" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["memory", "unheard-of"])
def test_a_place_is_shown_without_the_password_that_it_is_opened_with(scheme):
    try:
        shown = StorageDirectory.open(f"{scheme}://warung:sesame@host/models/").url
    except UsageError as refused:
        shown = str(refused)
    assert f"{scheme}://host/models" in shown
    assert "sesame" not in shown


def test_a_repository_is_private_unless_the_recipe_says_otherwise():
    assert Publish(repo="a/b").private
