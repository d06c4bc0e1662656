"""What the unmodified huggingface_hub client can do with the embedded Hub."""

import hashlib
import subprocess
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, hf_hub_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from tasks.core.demo.hub import HubAddress
from tests.unit.hub.conftest import OWNER, REPO

SHARD = "model-00001-of-00005.safetensors"


def add(path: str, content: bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path, content)


def read(hub: HubAddress, path: str, cache: Path, revision: str = "main") -> bytes:
    file = hf_hub_download(
        REPO, path, revision=revision, endpoint=hub.url, token=OWNER, cache_dir=cache
    )
    return Path(file).read_bytes()


def test_whoami_names_the_account(owner):
    assert owner.whoami()["name"] == "warung"
    assert [organization["name"] for organization in owner.whoami()["orgs"]] == ["koperasi"]


def test_creating_again_is_refused_unless_it_may_exist(owner):
    first = owner.create_repo(REPO)
    assert owner.create_repo(REPO, exist_ok=True) == first
    with pytest.raises(HfHubHTTPError) as refused:
        owner.create_repo(REPO)
    assert refused.value.response.status_code == 409


def test_what_is_pushed_comes_back_bit_for_bit(owner, published, model, tmp_path):
    copy = Path(owner.snapshot_download(published, cache_dir=tmp_path / "cache"))
    for path in model.iterdir():
        assert (copy / path.name).read_bytes() == path.read_bytes(), path.name


def test_metadata_tell_size_and_hash_as_git_and_lfs_count_them(owner, published, model):
    info = owner.model_info(published, files_metadata=True)
    files = {file.rfilename: file for file in info.siblings}
    shard, config = (model / SHARD).read_bytes(), (model / "config.json").read_bytes()
    assert files[SHARD].lfs.sha256 == hashlib.sha256(shard).hexdigest()
    assert files[SHARD].size == len(shard)
    assert files["config.json"].lfs is None
    git = subprocess.run(
        ["git", "hash-object", "--stdin"], input=config, stdout=subprocess.PIPE, check=True
    )
    assert files["config.json"].blob_id == git.stdout.decode().strip()


def test_pushing_the_same_files_again_makes_no_commit(owner, published, model):
    before = owner.model_info(published).sha
    owner.upload_folder(repo_id=published, folder_path=model)
    assert owner.model_info(published).sha == before


def test_the_same_weights_in_a_second_repository_are_sent_and_stored_once(
    owner, published, model, faults, tmp_path
):
    def stored() -> int:
        return sum(1 for path in (tmp_path / "hub" / "objects").rglob("*") if path.is_file())

    puts, objects = len(faults.requests("/lfs/", method="PUT")), stored()
    owner.create_repo("koperasi/model")
    owner.upload_folder(repo_id="koperasi/model", folder_path=model)
    assert len(faults.requests("/lfs/", method="PUT")) == puts
    assert stored() == objects


def test_branches_and_tags_with_slashes_name_their_commits(hub, owner, published, tmp_path):
    first = owner.model_info(published).sha
    owner.create_tag(published, tag="releases/v1", tag_message="first")
    owner.create_branch(published, branch="trial/a")
    owner.create_commit(
        published, operations=[add("n.txt", b"2")], commit_message="two", revision="trial/a"
    )
    refs = owner.list_repo_refs(published)
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"releases/v1": first}
    assert {ref.name for ref in refs.branches} == {"main", "trial/a"}
    assert read(hub, "n.txt", tmp_path / "cache", "trial/a") == b"2"
    with pytest.raises(RemoteEntryNotFoundError):
        read(hub, "n.txt", tmp_path / "cache", "releases/v1")
    owner.delete_branch(published, branch="trial/a")
    owner.delete_tag(published, tag="releases/v1")
    assert [ref.name for ref in owner.list_repo_refs(published).branches] == ["main"]


def test_a_ref_that_exists_is_not_moved(owner, published):
    owner.create_tag(published, tag="v1")
    owner.create_tag(published, tag="v1", exist_ok=True)
    with pytest.raises(HfHubHTTPError) as refused:
        owner.create_tag(published, tag="v1")
    assert refused.value.response.status_code == 409


def test_an_old_commit_stays_readable_by_its_id(hub, owner, published, tmp_path):
    owner.create_commit(published, operations=[add("n.txt", b"1")], commit_message="one")
    old = owner.model_info(published).sha
    owner.create_commit(published, operations=[add("n.txt", b"2")], commit_message="two")
    assert read(hub, "n.txt", tmp_path / "cache", old) == b"1"
    assert read(hub, "n.txt", tmp_path / "cache") == b"2"
    titles = [commit.title for commit in owner.list_repo_commits(published)]
    assert titles[:2] == ["two", "one"]
    assert titles[-1] == "initial commit"


def test_a_folder_is_listed_level_by_level_and_deleted_as_a_whole(owner, published):
    operations = [add("a/b/c.txt", b"c"), add("a/d.txt", b"d")]
    owner.create_commit(published, operations=operations, commit_message="folder")
    assert {entry.path for entry in owner.list_repo_tree(published, "a")} == {"a/b", "a/d.txt"}
    assert {entry.path for entry in owner.list_repo_tree(published, "a", recursive=True)} == {
        "a/b",
        "a/b/c.txt",
        "a/d.txt",
    }
    owner.create_commit(
        published, operations=[CommitOperationDelete("a/")], commit_message="away with it"
    )
    assert not [path for path in owner.list_repo_files(published) if path.startswith("a/")]


def test_long_listings_come_in_pages(owner, published):
    operations = [add(f"many/{number:04}.txt", b"x") for number in range(120)]
    owner.create_commit(published, operations=operations, commit_message="many")
    pages = list(owner._iter_repo_tree_pages(published, "many", expand=True))
    assert [len(page) for page, _ in pages] == [50, 50, 20]
    assert len({entry.path for page, _ in pages for entry in page}) == 120


def test_expanded_entries_name_the_commit_that_changed_them_last(owner, published):
    for name in ("a.txt", "b.txt"):
        owner.create_commit(published, operations=[add(name, b"x")], commit_message=f"add {name}")
    found = owner.get_paths_info(published, ["a.txt", "b.txt", "nothing"], expand=True)
    assert {entry.path: entry.last_commit.title for entry in found} == {
        "a.txt": "add a.txt",
        "b.txt": "add b.txt",
    }


@pytest.mark.parametrize(
    ("asked", "expected"), [("bytes=5-9", slice(5, 10)), ("bytes=100-", slice(100, None))]
)
def test_a_range_of_a_file_is_answered_with_these_bytes(hub, published, model, asked, expected):
    url = f"{hub.url}/{published}/resolve/main/{SHARD}"
    answer = httpx2.get(url, headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == (model / SHARD).read_bytes()[expected]
    assert answer.headers["ETag"].strip('"') == answer.headers["X-Linked-Etag"].strip('"')


def test_deleting_a_repository_takes_it_away(owner, published):
    owner.delete_repo(published)
    with pytest.raises(RepositoryNotFoundError):
        owner.model_info(published)
    owner.delete_repo(published, missing_ok=True)
