"""What is published signed: the signature covers it all, stands with it, and was checked there."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import model_signing
import pytest
from huggingface_hub import snapshot_download

from tasks.core.errors import HubError, SignatureRefused
from tasks.core.hub.publish.receipt import Receipt
from tasks.core.hub.publish.to_filesystem import publish_to_filesystem, rollback_on_filesystem
from tasks.core.hub.source_signature import require_signed_directory
from tasks.core.recipe import Publish
from tasks.core.signing import opened
from tasks.core.storage.directory import StorageDirectory
from tests.signing_keys import Pair, make_pair
from tests.unit.hub.publish.world import REPO, WRITER, Build, PublishHub

SIGNATURE = "model.sig"
To = Callable[..., Receipt]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/out"


def publish(build: Build, url: str, pair: Pair | None) -> Receipt:
    return publish_to_filesystem(
        build.publication(None if pair is None else pair.key), Publish(target=url)
    )


def folder(build: Build, url: str) -> Path:
    return Path(url.removeprefix("file://")) / "builds" / build.name


def accepted_by_the_library(model: Path, pair: Pair) -> None:
    config = model_signing.verifying.Config()
    config.use_elliptic_key_verifier(public_key=pair.public)
    config.verify(model, model / SIGNATURE)


def test_a_signature_that_was_changed_where_it_stands_is_no_longer_the_builds(
    plain: Build, url: str, pair: Pair
) -> None:
    publish(plain, url, pair)
    place = StorageDirectory.open(url)
    content = place.read(f"builds/{plain.name}/{SIGNATURE}")
    place.replace(f"builds/{plain.name}/{SIGNATURE}", content[:-20] + b" " * 20)
    with pytest.raises(HubError, match="Another build"):
        publish(plain, url, pair)


def test_the_signature_of_another_model_in_its_place_is_not_taken(
    plain: Build, edited: Build, url: str, pair: Pair
) -> None:
    publish(plain, url, pair)
    publish(edited, url, pair)
    place = StorageDirectory.open(url)
    swapped = place.read(f"builds/{edited.name}/{SIGNATURE}")
    place.replace(f"builds/{plain.name}/{SIGNATURE}", swapped)
    with pytest.raises(HubError, match="Another build"):
        publish(plain, url, pair)
    with pytest.raises(SignatureRefused, match="not what was signed"):
        require_signed_directory(folder(plain, url), pair.trusted)


def test_what_changes_the_signature_on_its_way_is_noticed_before_the_build_counts(
    plain: Build, url: str, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_pair(Path(url.removeprefix("file://")).parent / "other")
    monkeypatch.setattr(
        "tasks.core.hub.publish.build_signature.signature_over",
        lambda name, files, key: __import__("tasks.core.signing", fromlist=["x"]).signature_over(
            name, files, other.key
        ),
    )
    with pytest.raises(SignatureRefused):
        publish(plain, url, pair)
    assert not StorageDirectory.open(url).exists("current.json")


def test_a_published_build_carries_a_signature_over_exactly_its_files(
    plain: Build, url: str, pair: Pair
) -> None:
    receipt = publish(plain, url, pair)
    model = folder(plain, url)
    signed = opened((model / SIGNATURE).read_bytes(), pair.trusted, where="there")
    assert {*signed.files, SIGNATURE} == {*receipt.files}
    assert "README.md" in signed.files
    assert receipt.signature is not None
    assert receipt.signature.signed_by == pair.key.fingerprint
    assert any("signed with the key" in line for line in receipt.remarks())


def test_the_library_accepts_a_published_directory(plain: Build, url: str, pair: Pair) -> None:
    publish(plain, url, pair)
    accepted_by_the_library(folder(plain, url), pair)


def test_a_second_publish_sends_nothing_and_keeps_the_signature(
    plain: Build, url: str, pair: Pair
) -> None:
    """A signature has other bytes each time that it is made."""
    first = publish(plain, url, pair)
    second = publish(plain, url, pair)
    assert (second.sent, second.signature, second.commit) == ((), first.signature, first.commit)


@pytest.mark.parametrize("missing", [SIGNATURE, "config.json"])
def test_a_publish_that_was_killed_between_files_and_signature_goes_on(
    plain: Build, url: str, pair: Pair, missing: str
) -> None:
    publish(plain, url, pair)
    place = StorageDirectory.open(url)
    before = place.read(f"builds/{plain.name}/{SIGNATURE}")
    for name in ("current.json", f"builds/{plain.name}/manifest.json"):
        place.remove(name)
    place.remove(f"builds/{plain.name}/{missing}")
    assert publish(plain, url, pair).sent == (missing,)
    accepted_by_the_library(folder(plain, url), pair)
    kept = place.read(f"builds/{plain.name}/{SIGNATURE}") == before
    assert kept == (missing != SIGNATURE)


def test_an_unsigned_publish_has_no_signature(plain: Build, url: str) -> None:
    receipt = publish(plain, url, None)
    assert receipt.signature is None
    assert not (folder(plain, url) / SIGNATURE).exists()


def test_the_signature_that_a_model_was_taken_with_is_left_out_with_the_reason(
    plain: Build, url: str, tmp_path: Path
) -> None:
    model = shutil.copytree(plain.model, tmp_path / "copied")
    (model / SIGNATURE).write_bytes(b"of something else")
    receipt = publish(Build.of(plain.name, model), url, None)
    assert "publish.signed_by" in receipt.left_out[SIGNATURE]


def test_rollback_shows_the_signature_of_the_build_again(
    plain: Build, edited: Build, url: str, pair: Pair
) -> None:
    first = publish(plain, url, pair)
    publish(edited, url, pair)
    assert SIGNATURE in rollback_on_filesystem(url, first.tag).files
    accepted_by_the_library(folder(plain, url), pair)


# --- on a Hub --------------------------------------------------------------------------------


@pytest.fixture
def downloaded(hub: PublishHub, tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Fetch a revision as anybody does, without this project's code."""

    def fetch(revision: str) -> Path:
        path = tmp_path / "fetched" / revision
        snapshot_download(
            REPO,
            revision=revision,
            local_dir=path,
            cache_dir=tmp_path / "cache",
            token=WRITER,
            endpoint=hub.url,
        )
        shutil.rmtree(path / ".cache", ignore_errors=True)
        return path

    yield fetch


@pytest.mark.usefixtures("unproven")
def test_what_is_published_to_a_hub_is_accepted_by_the_library_and_never_signed_twice(
    hub: PublishHub, plain: Build, pair: Pair, downloaded: Callable[[str], Path]
) -> None:
    first = plain.publish(key=pair.key)
    for revision in ("main", first.tag):
        accepted_by_the_library(downloaded(revision), pair)
    writes = len(hub.writes())
    second = plain.publish(key=pair.key)
    assert (second.signature, second.commit) == (first.signature, first.commit)
    assert len(hub.writes()) == writes


@pytest.mark.usefixtures("unproven")
def test_a_signed_build_takes_the_place_of_an_unsigned_one_without_its_weights_sent_again(
    hub: PublishHub, plain: Build, pair: Pair, downloaded: Callable[[str], Path]
) -> None:
    plain.publish()
    signed = replace(plain, name="first-signed")
    receipt = signed.publish(key=pair.key)
    assert not any(name.endswith(".safetensors") for name in receipt.sent)
    accepted_by_the_library(downloaded("main"), pair)
    plain.publish()
    assert SIGNATURE not in hub.files()


@pytest.mark.usefixtures("unproven")
def test_a_tag_whose_signature_another_key_made_is_not_called_signed(
    hub: PublishHub, plain: Build, pair: Pair, tmp_path: Path
) -> None:
    plain.publish(key=make_pair(tmp_path).key)
    with pytest.raises(HubError, match="Another build"):
        plain.publish(key=pair.key)
