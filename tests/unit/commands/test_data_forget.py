"""`kawan-usaha data forget`: everything of a person, from the disk, whether the deployment runs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from tasks.core.collected.keeper import CollectionLimits, Keeper
from tasks.core.collected.review.reading import read_collected
from tasks.core.errors import UsageError
from tests.unit.collected.test_keeper import offered


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["data", "forget", *words], catch_exceptions=False)


@pytest.fixture
def collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KAWAN_USAHA_HOME", str(tmp_path))
    directory = tmp_path / "serving" / "demo" / "collected"
    directory.parent.mkdir(parents=True)
    keeper = Keeper(directory, CollectionLimits(90, 10**9))
    for name, user in (("chatcmpl-1", "siti 7"), ("chatcmpl-2", "6c6cb5786fd48916cf41")):
        keeper.keep(offered(name, user))
    return directory


def test_a_person_is_forgotten_and_nobody_else(collected):
    ran = run("demo", "siti 7")
    assert ran.stdout.startswith("1 answer of this person deleted")
    assert [each.answer.id for each in read_collected(collected)] == ["chatcmpl-2"]


def test_the_number_is_taken_as_the_page_shows_it(collected):
    ran = run("demo", "6c6cb 5786f d4891 6cf41", "--json")
    assert json.loads(ran.stdout) == {
        "deployment": "demo",
        "deleted": 1,
        "artifacts": [],
        "models": [],
        "at_remote": [],
        "left": None,
    }
    assert [each.answer.id for each in read_collected(collected)] == ["chatcmpl-1"]


def test_a_person_is_found_at_whichever_client_or_at_the_one_that_is_named(collected):
    keeper = Keeper(collected, CollectionLimits(90, 10**9))
    for name, client in (("chatcmpl-3", "warung"), ("chatcmpl-4", "kasir")):
        keeper.keep(replace(offered(name, "siti 7"), client=client))
    assert run("demo", "siti 7", "--key", "kasir").stdout.startswith("1 answer ")
    assert run("demo", "siti 7").stdout.startswith("2 answers")
    assert [each.answer.id for each in read_collected(collected)] == ["chatcmpl-2"]


def test_somebody_who_is_not_there_is_no_error(collected):
    assert run("demo", "budi").stdout.startswith("0 answers")


def test_a_deployment_that_is_not_there_is_one(collected):
    with pytest.raises(UsageError, match="no such deployment"):
        run("other", "budi")


def test_nothing_is_made_where_nothing_was_collected(collected, tmp_path):
    (tmp_path / "serving" / "quiet").mkdir()
    assert run("quiet", "budi").exit_code == 0
    assert list((tmp_path / "serving" / "quiet").iterdir()) == []
