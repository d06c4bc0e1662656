"""A data set out of a Hub: which file, and the download by the real client from a real server.

The embedded Hub has no data sets; under their addresses a model repository of it answers here.
"""

from pathlib import Path

import pytest
from huggingface_hub import HfApi

from tasks.core.errors import RepositoryNotFound, UsageError
from tasks.core.hub.download.dataset_files import choose_file, fetch_conversations
from tests.unit.hub.conftest import OWNER, REPO


def test_a_single_json_file_is_the_one() -> None:
    assert choose_file(["README.md", "data/obrolan.jsonl"], None, "x") == "data/obrolan.jsonl"


def test_of_several_the_one_with_a_usual_name_is_taken() -> None:
    assert choose_file(["a.json", "train.json", "test.json"], None, "x") == "train.json"


@pytest.mark.parametrize(
    "names", [["a.json", "b.json"], ["README.md"], ["train.json", "x/train.json"]]
)
def test_an_unclear_choice_is_refused_with_what_there_is(names: list[str]) -> None:
    with pytest.raises(UsageError, match=r"not clear[\s\S]*--file"):
        choose_file(names, None, "x")


def test_a_named_file_is_taken_or_refused() -> None:
    assert choose_file(["a.json", "b.json"], "b.json", "x") == "b.json"
    with pytest.raises(UsageError, match=r"a\.json, b\.json"):
        choose_file(["a.json", "b.json"], "c.json", "x")


def test_a_data_set_is_downloaded_at_its_commit(
    datasets: str, owner: HfApi, tmp_path: Path
) -> None:
    owner.create_repo(REPO)
    commit = owner.upload_file(
        path_or_fileobj=b'[{"id": "a"}]', path_in_repo="conversation.json", repo_id=REPO
    ).oid
    path = fetch_conversations(REPO, "main", tmp_path / "datasets", token=OWNER)
    assert path.read_bytes() == b'[{"id": "a"}]'
    assert path == tmp_path / "datasets" / "warung--model" / commit / "conversation.json"


def test_a_data_set_that_is_not_there_is_named(datasets: str, tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFound, match="warung/tiada"):
        fetch_conversations("warung/tiada", "main", tmp_path, token=OWNER)
