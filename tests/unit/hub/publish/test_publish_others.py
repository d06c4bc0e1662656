"""Files of somebody else in the place that is published to: they stay, and are told."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.core.errors import HubError
from tasks.core.hub.publish.to_filesystem import publish_to_filesystem, rollback_on_filesystem
from tasks.core.hub.publish.to_hub.protocol import rollback_on_hub
from tasks.core.recipe import Publish
from tasks.core.storage.directory import StorageDirectory
from tests.unit.hub.publish.world import REPO, Build, PublishHub

pytestmark = pytest.mark.usefixtures("unproven")

OTHERS = ("docs/notes.md", "model-q4.gguf")


@pytest.fixture
def small(edited: Build, tmp_path: Path) -> Build:
    """The same model without code, under another name: a file fewer."""
    model = shutil.copytree(edited.model, tmp_path / "small")
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    del config["auto_map"]
    (model / "config.json").write_text(json.dumps(config))
    (model / "modeling_tiny_edited.py").unlink()
    return Build.of("small", model)


@pytest.fixture
def shared(hub: PublishHub) -> PublishHub:
    """A Hub whose repository holds somebody else's files already."""
    hub.api.create_repo(REPO, private=True)
    for name in OTHERS:
        upload(hub, name)
    return hub


def upload(hub: PublishHub, name: str, content: bytes = b"mine", revision: str = "main") -> None:
    hub.api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id=REPO, revision=revision)


def names(build: Build) -> set[str]:
    return {*build.files, "README.md"}


# --- on a Hub --------------------------------------------------------------------------------


def test_others_files_stay_on_main_and_the_receipt_lists_them(
    shared: PublishHub, edited: Build
) -> None:
    receipt = edited.publish()
    assert receipt.kept == OTHERS
    assert shared.files().keys() == {*names(edited), *OTHERS}
    assert receipt.remarks() == ("kept, not of this project: docs/notes.md, model-q4.gguf",)


def test_the_tag_holds_the_build_alone(shared: PublishHub, edited: Build) -> None:
    receipt = edited.publish()
    assert shared.files(receipt.tag).keys() == names(edited) == set(receipt.files)


def test_files_of_an_earlier_build_go_when_the_next_one_has_none_of_that_name(
    shared: PublishHub, edited: Build, small: Build
) -> None:
    edited.publish()
    receipt = small.publish()
    assert receipt.kept == OTHERS
    assert shared.files().keys() == {*names(small), *OTHERS}


def test_a_rollback_leaves_others_files_and_brings_the_builds_own_back(
    shared: PublishHub, edited: Build, small: Build
) -> None:
    tag = edited.publish().tag
    small.publish()
    upload(shared, "later.txt")
    receipt = rollback_on_hub(REPO, tag)
    assert receipt.kept == (OTHERS[0], "later.txt", OTHERS[1])
    assert shared.files().keys() == {*names(edited), *receipt.kept}
    assert set(receipt.files) == names(edited)


def test_published_again_nothing_is_sent_and_others_files_still_stay(
    shared: PublishHub, edited: Build
) -> None:
    first = edited.publish()
    again = edited.publish()
    assert (again.sent, again.commit, again.kept) == ((), first.commit, OTHERS)


def test_a_file_of_ours_that_somebody_changed_is_theirs_now(
    shared: PublishHub, edited: Build, small: Build
) -> None:
    edited.publish()
    upload(shared, "modeling_tiny_edited.py", b"# improved by hand")
    assert small.publish().kept == (*OTHERS, "modeling_tiny_edited.py")


def test_somebody_elses_tag_that_begins_like_ours_makes_their_files_not_ours(
    shared: PublishHub, edited: Build
) -> None:
    shared.api.create_tag(REPO, tag="release-1.0")
    assert edited.publish().kept == OTHERS


def test_files_of_a_build_whose_publish_was_killed_before_its_tag_are_ours(
    shared: PublishHub, edited: Build, small: Build
) -> None:
    edited.publish()
    commit = next(
        ref.target_commit for ref in shared.api.list_repo_refs(REPO).tags if "second" in ref.name
    )
    shared.api.delete_tag(REPO, tag="release-second")
    shared.api.create_branch(REPO, branch="build-second", revision=commit)
    assert small.publish().kept == OTHERS


def test_a_build_of_an_earlier_version_is_known_by_its_tag_on_main(
    hub: PublishHub, edited: Build, small: Build
) -> None:
    edited.publish()  # nothing beside it: main's commit holds the build alone, as it always did
    hub.api.delete_tag(REPO, tag="release-second")
    hub.api.create_tag(REPO, tag="release-second", revision="main")
    receipt = small.publish()
    assert receipt.kept == ()
    assert hub.files().keys() == names(small)


@pytest.mark.parametrize("name", ["adapter_config.json", "added_tokens.json"])
def test_a_file_that_would_be_loaded_with_the_model_is_refused_before_anything_is_sent(
    shared: PublishHub, edited: Build, name: str
) -> None:
    upload(shared, name)
    before = (shared.files(), len(shared.writes()))
    with pytest.raises(HubError, match=name) as told:
        edited.publish()
    assert told.value.next_step and "delete-files" in told.value.next_step
    assert (shared.files(), len(shared.writes())) == before


# --- in a directory or bucket ----------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> StorageDirectory:
    return StorageDirectory.open(str(tmp_path / "place"))


def to_place(build: Build, place: StorageDirectory):
    target = Publish(target=place.url)
    return publish_to_filesystem(build.publication(), target)


def test_others_files_in_a_directory_stay_and_are_listed(
    place: StorageDirectory, edited: Build
) -> None:
    place.send(b"mine", "notes.md")
    place.send(b"mine", "builds/second/model-q4.gguf")
    receipt = to_place(edited, place)
    assert receipt.kept == ("model-q4.gguf",)
    assert place.read("notes.md") == place.read("builds/second/model-q4.gguf") == b"mine"
    assert to_place(edited, place).kept == receipt.kept
    assert rollback_on_filesystem(place.url, receipt.tag).kept == receipt.kept


def test_a_file_that_would_be_loaded_with_a_build_in_a_directory_is_refused(
    place: StorageDirectory, edited: Build
) -> None:
    place.send(b"{}", "builds/second/adapter_config.json")
    with pytest.raises(HubError, match="adapter_config"):
        to_place(edited, place)
    assert not place.exists("current.json")


@pytest.mark.parametrize("content", [b"not JSON", b'{"model": "mine"}', b"[]"])
def test_a_pointer_that_is_not_ours_is_not_written_over(
    place: StorageDirectory, edited: Build, content: bytes
) -> None:
    place.send(content, "current.json")
    with pytest.raises(HubError, match="of another origin"):
        to_place(edited, place)
    assert place.read("current.json") == content


def test_what_a_killed_writer_left_of_a_manifest_is_removed(
    place: StorageDirectory, edited: Build
) -> None:
    place.send(b"{", "builds/second/.tmp-abc")
    assert to_place(edited, place).kept == ()
    assert not place.exists("builds/second/.tmp-abc")


def test_half_a_build_is_not_pointed_to_for_somebody_elses_file(
    place: StorageDirectory, edited: Build
) -> None:
    other = replace(edited, name="other")
    to_place(other, place)
    place.send(b"mine", "builds/second/notes.md")
    to_place(edited, place)
    assert json.loads(place.read("current.json"))["build"] == "second"
