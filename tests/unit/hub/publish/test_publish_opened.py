"""A target is opened before anything is made: what would fail at the end of a run fails first."""

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tasks.core.errors import (
    BucketMissing,
    HubError,
    HubUnavailable,
    MissingTool,
    StorageRefused,
    StorageUnavailable,
    UsageError,
    WrongToken,
)
from tasks.core.hub.publish import preflight as publish_opened
from tasks.core.hub.publish.preflight import require_open
from tasks.core.hub.publish.to_hub.access import writable
from tasks.core.process.ports import free_port
from tasks.core.recipe import Publish
from tasks.core.storage import urls as storage
from tests.hub_faults import Refuse
from tests.unit.hub.publish.world import READER, REPO, WRITER, PublishHub
from tests.unit.storage.test_urls import without


def test_a_target_without_its_package_is_refused_with_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without("s3fs", monkeypatch)
    with pytest.raises(MissingTool, match="not installed") as told:
        require_open(Publish(target="s3://bucket/models"))
    assert "pip install s3fs" in str(told.value.next_step)


def test_an_unknown_protocol_is_a_mistake_in_the_recipe() -> None:
    with pytest.raises(UsageError, match="storage protocol is unknown"):
        require_open(Publish(target="carrier-pigeon://coop"))


def test_a_file_where_the_directory_goes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StorageRefused, match="There is a file where"):
        require_open(Publish(target=str(tmp_path / "taken" / "models")))
    assert (tmp_path / "taken").read_text() == "a file"


@pytest.mark.parametrize("beside", ["out", "a/b/c"])
def test_a_directory_that_can_be_made_is_not_made_yet(tmp_path: Path, beside: str) -> None:
    require_open(Publish(target=str(tmp_path / beside)))
    assert list(tmp_path.iterdir()) == []


def test_nothing_stays_of_the_trial_in_a_storage() -> None:
    place = f"/{uuid.uuid4().hex}"
    require_open(Publish(target=f"memory:/{place}"))
    assert fsspec.filesystem("memory").find(place) == []


def test_a_storage_that_is_silent_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    pytest.importorskip("s3fs")
    monkeypatch.setattr(storage, "WITHIN_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, never answers
        port = silent.getsockname()[1]
        _keys(monkeypatch, f"http://127.0.0.1:{port}")
        with pytest.raises(StorageUnavailable, match="does not answer") as told:
            require_open(Publish(target="s3://silent/models"))
    assert told.value.retryable
    assert "within 1 s" in str(told.value.expected)


def _keys(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An S3 server of this machine, without any bucket."""
    pytest.importorskip("s3fs")
    moto_server = pytest.importorskip("moto.server")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=free_port())
    server.start()
    try:
        _keys(monkeypatch, "http://{}:{}".format(*server.get_host_and_port()))
        yield
    finally:
        server.stop()
        sys.modules["fsspec"].get_filesystem_class("s3").clear_instance_cache()


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_is_not_there_is_refused_and_one_that_is_there_stays_empty() -> None:
    target = Publish(target=f"s3://{uuid.uuid4().hex}/models")
    with pytest.raises(BucketMissing):
        require_open(target)
    bucket = str(target.target).split("/")[2]
    fsspec.filesystem("s3").mkdir(bucket)
    require_open(target)
    assert fsspec.filesystem("s3", skip_instance_cache=True).find(bucket) == []


@pytest.fixture
def as_writer(hub: PublishHub, monkeypatch: pytest.MonkeyPatch) -> PublishHub:
    monkeypatch.setenv("HF_TOKEN", WRITER)
    return hub


def test_a_token_that_only_reads_is_refused(
    hub: PublishHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", READER)
    with pytest.raises(WrongToken, match="may read, but not write"):
        require_open(Publish(repo=REPO))


@pytest.mark.parametrize(
    ("rights", "may_write"),
    [
        ({"scoped": [{"permissions": ["repo.content.read"]}]}, False),
        ({"scoped": [{"permissions": ["repo.content.read", "repo.write"]}]}, True),
        ({"global": ["repo.write"]}, True),
        ({}, False),
    ],
)
def test_a_token_of_chosen_rights_needs_that_to_write(
    as_writer: PublishHub,
    monkeypatch: pytest.MonkeyPatch,
    rights: dict[str, object],
    may_write: bool,
) -> None:
    token = {"role": "fineGrained", "fineGrained": rights}
    who = {"name": "kawan", "orgs": [], "auth": {"accessToken": token}}
    monkeypatch.setattr("huggingface_hub.HfApi.whoami", lambda *_, **__: who)
    if may_write:
        assert writable(REPO, None, 1.0)[1] == who
    else:
        with pytest.raises(WrongToken):
            writable(REPO, None, 1.0)


def test_a_name_of_somebody_else_is_refused(as_writer: PublishHub) -> None:
    with pytest.raises(HubError, match="cannot make it") as told:
        require_open(Publish(repo="somebody-else/model"))
    assert told.value.where == "somebody-else/model"


def test_a_public_repository_is_refused_where_the_recipe_wants_a_private_one(
    as_writer: PublishHub,
) -> None:
    as_writer.api.create_repo(REPO, private=False)
    with pytest.raises(HubError, match="The repository is public"):
        require_open(Publish(repo=REPO))
    require_open(Publish(repo=REPO, private=False))


def test_a_hub_that_does_not_answer_is_given_up_in_time(
    as_writer: PublishHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish_opened, "_DEADLINE_S", 0.0)
    as_writer.faults.add(Refuse(503), ".*", times=1000)
    with pytest.raises(HubUnavailable):
        require_open(Publish(repo=REPO))


def test_nothing_is_made_on_the_hub(as_writer: PublishHub) -> None:
    require_open(Publish(repo=REPO))
    require_open(Publish(repo="model-without-an-owner"))
    assert as_writer.writes() == []
    assert not as_writer.api.repo_exists(REPO)
