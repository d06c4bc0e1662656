"""Publishing to a directory or bucket: verified, pointed to last, and back again."""

import json
import shutil
import uuid
from dataclasses import replace

import fsspec
import pytest

from tasks.core.errors import (
    FileChanged,
    HubError,
    MissingTool,
    RevisionNotFound,
    StorageRefused,
    UploadCorrupt,
    UsageError,
)
from tasks.core.files.digests import digest_of
from tasks.core.hub.publish.to_filesystem import publish_to_filesystem, rollback_on_filesystem
from tasks.core.recipe import Publish
from tasks.core.storage.directory import StorageDirectory
from tests.unit.hub.publish.world import TARGET, Build


@pytest.fixture(params=["directory", "file", "memory"])
def url(request, tmp_path) -> str:
    """An empty target of each kind that needs no service."""
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/models"
    return str(tmp_path / "out") if request.param == "directory" else f"file://{tmp_path}/out"


def _publish(build: Build, url: str):
    return publish_to_filesystem(build.publication(), Publish(target=url))


def _current(url: str) -> dict[str, str]:
    fs, root = fsspec.core.url_to_fs(url)
    return json.loads(fs.cat_file(f"{root}/current.json"))


@pytest.fixture
def copied(edited, tmp_path) -> Build:
    """A build whose files may be spoiled."""
    return replace(edited, model=shutil.copytree(edited.model, tmp_path / "copied"))


@pytest.mark.parametrize("folder", ["", "figures/"])
def test_what_a_killed_writer_left_of_a_file_is_removed(edited, url, folder):
    left = f"builds/{edited.name}/{folder}.tmp-k2x"
    StorageDirectory.open(url).replace(left, b"half a file")
    assert _publish(edited, url).kept == ()
    assert not StorageDirectory.open(url).exists(left)


def test_a_changed_model_file_is_never_pointed_to(copied, url):
    (copied.model / "config.json").write_bytes(b"x" * copied.files["config.json"].size_bytes)
    with pytest.raises(FileChanged, match=r"config\.json is not the file that was built"):
        _publish(copied, url)
    assert not StorageDirectory.open(url).exists("current.json")


def test_a_file_of_another_size_is_refused_before_anything_is_sent(copied, url):
    (copied.model / "config.json").write_text("{}")
    with pytest.raises(FileChanged, match="2 bytes"):
        _publish(copied, url)
    assert StorageDirectory.open(url).folders("builds") == []


def test_another_build_of_the_same_name_is_refused(plain, edited, url):
    _publish(plain, url)
    with pytest.raises(HubError, match="Another build"):
        _publish(replace(edited, name=plain.name), url)
    assert _current(url)["build"] == plain.name


def test_a_published_build_that_was_changed_in_place_is_noticed(plain, url):
    _publish(plain, url)
    StorageDirectory.open(url).remove(f"builds/{plain.name}/config.json")
    with pytest.raises(UploadCorrupt, match="changed in place"):
        _publish(plain, url)


def test_an_unknown_protocol_is_a_mistake_in_the_recipe(plain):
    with pytest.raises(UsageError, match="storage protocol is unknown"):
        _publish(plain, "carrier-pigeon://coop")


def test_a_protocol_without_its_package_names_the_package(plain):
    with pytest.raises(MissingTool, match="not installed"):
        _publish(plain, "gs://bucket/models")


def test_a_target_that_is_a_file_is_a_mistake_in_the_recipe(plain, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StorageRefused, match="There is a file where"):
        _publish(plain, str(tmp_path / "taken"))
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_recipe_for_a_hub_is_not_published_to_a_directory(plain):
    with pytest.raises(UsageError, match="publishes to a Hub"):
        publish_to_filesystem(plain.publication(), TARGET)


def test_a_first_publish_brings_every_file_and_points_to_it(plain, url):
    receipt = _publish(plain, url)
    place = StorageDirectory.open(url)
    for name, digest in plain.files.items():
        assert place.digest(f"builds/{plain.name}/{name}") == digest
    assert place.read(f"builds/{plain.name}/README.md").decode() == plain.card
    assert _current(url)["path"] == f"builds/{plain.name}"
    assert (receipt.sent_bytes, receipt.skipped_bytes) == (plain.size_bytes, 0)


def test_a_second_publish_sends_nothing(plain, url):
    first = _publish(plain, url)
    second = _publish(plain, url)
    assert (second.sent_bytes, second.skipped_bytes) == (0, plain.size_bytes)
    assert second.commit == first.commit


def test_a_broken_publish_goes_on_with_the_files_that_are_missing(plain, url):
    names = sorted(plain.files)
    place = StorageDirectory.open(url)
    for name in names[:3]:
        place.send(plain.model / name, f"builds/{plain.name}/{name}")
    place.send(b"half a file", f"builds/{plain.name}/{names[3]}")
    place.send(b"left over", f"builds/{plain.name}/old.bin")

    receipt = _publish(plain, url)

    assert set(receipt.sent) == {*names[3:], "README.md"}
    assert receipt.kept == ("old.bin",)  # nobody knows whose it is
    assert place.exists(f"builds/{plain.name}/old.bin")
    assert place.digest(f"builds/{plain.name}/{names[3]}") == plain.files[names[3]]


def test_rollback_moves_the_pointer_and_nothing_else(plain, edited, url):
    first = _publish(plain, url)
    _publish(edited, url)
    before = StorageDirectory.open(url).files("builds")

    receipt = rollback_on_filesystem(url, first.tag)

    assert _current(url)["build"] == plain.name
    assert receipt.commit == first.commit
    assert receipt.sent_bytes == 0
    assert StorageDirectory.open(url).files("builds") == before


def test_rollback_to_an_unknown_build_names_those_that_are_whole(plain, url):
    _publish(plain, url)
    StorageDirectory.open(url).send(b"half", "builds/half/model.safetensors")
    with pytest.raises(RevisionNotFound, match="release-first") as refusal:
        rollback_on_filesystem(url, "release-third")
    assert "half" not in str(refusal.value)


def test_the_pointer_of_a_directory_is_replaced_by_a_rename(plain, edited, tmp_path):
    url = str(tmp_path / "out")
    _publish(plain, url)
    with (tmp_path / "out" / "current.json").open() as opened_before:
        _publish(edited, url)
        assert json.load(opened_before)["build"] == plain.name
    model = tmp_path / "out" / _current(url)["path"] / "model.safetensors"
    assert digest_of(model) == edited.files["model.safetensors"]
