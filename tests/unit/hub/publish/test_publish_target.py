"""Where a recipe may publish to."""

import pytest
from pydantic import ValidationError

from tasks.core.recipe import Publish


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
    with pytest.raises(ValidationError, match=complaint):
        Publish(**fields)


def test_a_repository_is_private_unless_the_recipe_says_otherwise():
    assert Publish(repo="a/b").private
