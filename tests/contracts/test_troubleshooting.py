"""docs/troubleshooting.md quotes what the program says, and names errors that it has."""

import inspect
import re

import pytest

from tasks.core import errors
from tasks.core.home import PROJECT
from tests.contracts.recommended_commands import constants_of_the_code

PAGE = (PROJECT / "docs" / "troubleshooting.md").read_text()
QUOTED = sorted(set(re.findall(r"“([^”]+)”", PAGE)))
ERRORS = {name for name, kind in vars(errors).items() if inspect.isclass(kind)}
NAMED = sorted(set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)`", PAGE)))


@pytest.fixture(scope="module")
def said() -> str:
    return "\0".join(text for texts in constants_of_the_code().values() for text in texts)


def test_it_explains_ten_errors_each_with_its_text_cause_and_fix() -> None:
    sections = PAGE.partition("## The ten most")[2].partition("\n## ")[0].split("\n### ")[1:]
    assert len(sections) == 10
    for section in sections:
        assert "“" in section, section
        assert "- **Cause**: " in section, section
        assert "- **Fix**: " in section, section


@pytest.mark.parametrize("text", QUOTED)
def test_what_it_quotes_is_what_the_program_says(text: str, said: str) -> None:
    assert text in said


def test_the_readme_leads_to_it_by_what_the_program_says(said: str) -> None:
    readme = (PROJECT / "README.md").read_text()
    quoted = re.findall(r"\[([^]]+)\]\(docs/troubleshooting\.md#", readme)
    assert len(quoted) >= 5
    # What an f-string fills in is a part of its own.
    assert [text for text in quoted if not all(part in said for part in parts(text))] == []


def parts(text: str) -> list[str]:
    return re.split(r": |\d+", text)


@pytest.mark.parametrize("name", NAMED)
def test_an_error_that_it_names_is_one(name: str) -> None:
    assert name in ERRORS
