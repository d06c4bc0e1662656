"""What the embedded Hub refuses, as the unmodified huggingface_hub client tells it apart."""

import hashlib

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tasks.core.demo.hub import HubAddress, running_hub, serve_hub
from tasks.core.errors import PortTaken, UsageError
from tests.unit.hub.conftest import GUEST, OWNER, READER, REPO, STRANGER


def api(hub: HubAddress, token: str | None) -> HfApi:
    return HfApi(endpoint=hub.url, token=token or False)


def add(path: str, content: bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path, content)


def test_a_missing_repository_is_not_found(owner):
    with pytest.raises(RepositoryNotFoundError):
        owner.model_info("warung/nothing")


def test_a_name_without_owner_is_not_found(owner):
    with pytest.raises(RepositoryNotFoundError):
        owner.model_info("gpt2")


@pytest.mark.parametrize("token", [None, STRANGER])
def test_a_private_repository_looks_as_if_it_were_not_there(hub, owner, token):
    owner.create_repo(REPO, private=True)
    with pytest.raises(RepositoryNotFoundError):
        api(hub, token).model_info(REPO)
    assert not list(api(hub, token).list_models())


def test_an_unknown_token_is_refused_even_for_what_is_public(hub, published):
    with pytest.raises(HfHubHTTPError) as refused:
        api(hub, "hf_invented").model_info(published)
    assert refused.value.response.status_code == 401
    assert not isinstance(refused.value, RepositoryNotFoundError)


@pytest.mark.parametrize("token", [None, STRANGER])
def test_a_gated_repository_is_listed_but_its_files_are_closed(
    hub, owner, published, token, tmp_path
):
    owner.update_repo_settings(published, gated="auto")
    assert api(hub, token).model_info(published).gated == "auto"
    with pytest.raises(GatedRepoError):
        api(hub, token).auth_check(published)
    with pytest.raises(GatedRepoError):
        api(hub, token).hf_hub_download(published, "config.json", cache_dir=tmp_path / "cache")


def test_a_gated_repository_opens_to_who_accepted_its_terms(hub, owner, published, tmp_path):
    owner.update_repo_settings(published, gated="manual")
    assert api(hub, GUEST).hf_hub_download(published, "config.json", cache_dir=tmp_path / "c")


@pytest.mark.parametrize("token", [None, READER, STRANGER])
def test_only_the_owner_with_a_write_token_may_commit(hub, published, token):
    with pytest.raises(HfHubHTTPError) as refused:
        api(hub, token).create_commit(
            published, operations=[add("note.txt", b"x")], commit_message="no"
        )
    assert refused.value.response.status_code == (403 if token else 401)


def test_nobody_creates_in_a_namespace_of_others(hub, owner):
    with pytest.raises(HfHubHTTPError, match="right to write"):
        owner.create_repo("orang-lain/model")
    assert owner.create_repo("koperasi/model").repo_id == "koperasi/model"


@pytest.mark.parametrize("revision", ["nothing", "0" * 40])
def test_an_unknown_revision_is_told_from_an_unknown_repository(owner, published, revision):
    with pytest.raises(RevisionNotFoundError):
        owner.model_info(published, revision=revision)
    with pytest.raises(RevisionNotFoundError):
        list(owner.list_repo_tree(published, revision=revision))


def test_an_unknown_folder_or_file_is_an_entry_that_is_not_found(owner, published, tmp_path):
    with pytest.raises(RemoteEntryNotFoundError):
        list(owner.list_repo_tree(published, "nothing"))
    with pytest.raises(RemoteEntryNotFoundError):
        owner.hf_hub_download(published, "nothing.txt", cache_dir=tmp_path / "cache")


def test_a_commit_on_an_outdated_parent_is_refused(owner, published):
    old = owner.model_info(published).sha
    owner.create_commit(published, operations=[add("a.txt", b"a")], commit_message="first")
    with pytest.raises(HfHubHTTPError, match="A commit has happened since"):
        owner.create_commit(
            published, operations=[add("b.txt", b"b")], commit_message="second", parent_commit=old
        )


def test_deleting_what_is_not_there_is_refused_and_changes_nothing(owner, published):
    before = owner.model_info(published).sha
    with pytest.raises(RemoteEntryNotFoundError):
        owner.create_commit(
            published,
            operations=[add("a.txt", b"a"), CommitOperationDelete("nothing.txt")],
            commit_message="no",
        )
    assert owner.model_info(published).sha == before


def test_an_upload_that_arrives_damaged_is_refused_and_not_kept(hub, owner, published):
    content = b"\0 weights"
    oid = hashlib.sha256(content).hexdigest()
    batch = {"operation": "upload", "objects": [{"oid": oid, "size": len(content)}]}
    headers = {"Authorization": f"Bearer {OWNER}"}

    def offered() -> dict:
        url = f"{hub.url}/{published}.git/info/lfs/objects/batch"
        return httpx2.post(url, json=batch, headers=headers).json()["objects"][0]

    place = offered()["actions"]["upload"]["href"]
    assert httpx2.put(place, content=b"\0 weighty").status_code == 400
    assert httpx2.put(place.replace("signature=", "signature=0"), content=content).is_error
    assert "actions" in offered()
    assert httpx2.put(place, content=content).is_success
    assert "actions" not in offered()


def test_a_commit_cannot_name_an_lfs_file_that_was_never_uploaded(hub, published):
    lines = (
        b'{"key": "header", "value": {"summary": "x"}}\n'
        b'{"key": "lfsFile", "value": {"path": "w.bin", "oid": "%s", "size": 1}}' % (b"0" * 64)
    )
    url = f"{hub.url}/api/models/{published}/commit/main"
    answer = httpx2.post(url, content=lines, headers={"Authorization": f"Bearer {OWNER}"})
    assert answer.status_code == 400
    assert "was not uploaded" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/etc/passwd", "a/../../b", ".git/config", "a//b"])
def test_a_path_that_leaves_the_repository_is_refused(hub, published, path):
    line = b'{"key": "file", "value": {"path": "%s", "content": "eA=="}}' % path.encode()
    url = f"{hub.url}/api/models/{published}/commit/main"
    answer = httpx2.post(url, content=line, headers={"Authorization": f"Bearer {OWNER}"})
    assert (answer.status_code, answer.json()["error"]) == (400, f"Invalid path: {path}")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org"])
def test_it_listens_on_loopback_only(tmp_path, host):
    with pytest.raises(UsageError, match="this machine only"):
        serve_hub(tmp_path / "hub", host=host, port=0, ready_file=None)


def test_a_taken_port_is_told(tmp_path, hub):
    port = int(hub.url.rpartition(":")[2])
    with pytest.raises(PortTaken):
        serve_hub(tmp_path / "other", host="127.0.0.1", port=port, ready_file=None)


def test_a_directory_has_one_server_at_a_time(tmp_path, hub):
    with pytest.raises(UsageError, match="Another server"), running_hub(tmp_path / "hub"):
        pass


def test_another_sites_page_cannot_reach_it_through_its_own_name(hub):
    answer = httpx2.get(f"{hub.url}/api/models", headers={"Host": "evil.example"})
    assert answer.status_code == 400
