"""Artifacts that are signed where they are built: beside the store, and nothing else changes."""

import shutil
from pathlib import Path

import model_signing
import pytest

from tasks.core.errors import CorruptArtifact, SignatureRefused
from tasks.core.keys import stage_key
from tasks.core.store import Built, Staging, Store
from tasks.core.store.checks import wrong_content
from tasks.core.store.kept_signatures import KeptSignatures
from tasks.core.store.seals import Document
from tasks.core.store.signed import require_signed, sign, signed_by
from tests.signing_keys import Pair, make_pair

KEY = stage_key("merge", 1, {"dtype": "float16"})


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("keys"))


def two_files(staging: Staging) -> None:
    (staging.path / "model.bin").write_bytes(b"weights" * 10_000)
    (staging.path / "config.json").write_text("{}")


def fail(_: Staging) -> None:
    raise AssertionError("it was built again")


def build(store: Store) -> Built:
    return store.build(KEY, two_files, params={"dtype": "float16"})


def test_a_signature_of_what_was_built_before_is_not_that_of_what_is_built_anew(
    pair: Pair, tmp_path: Path
) -> None:
    store = Store(tmp_path / "alone", key=pair.key)
    path = build(store).artifact.path
    shutil.rmtree(path)
    again = Store(tmp_path / "alone")
    build(again)
    assert signed_by(again, str(KEY)) == ()
    with pytest.raises(SignatureRefused, match="not signed by the required key") as no:
        require_signed(again, str(KEY), pair.trusted)
    assert f"store sign {KEY}" in str(no.value.next_step)


def test_a_damaged_artifact_is_not_signed(tmp_path: Path, pair: Pair) -> None:
    store = Store(tmp_path / "alone")
    file = build(store).artifact.path / "model.bin"
    file.chmod(0o644)
    file.write_bytes(b"Weights" + b"weights" * 9_999)
    with pytest.raises(CorruptArtifact, match="set aside"):
        sign(store, str(KEY), pair.key)
    assert signed_by(store, str(KEY)) == ()


def test_an_artifact_that_is_not_there_is_not_signed(tmp_path: Path, pair: Pair) -> None:
    with pytest.raises(CorruptArtifact, match="no such artifact"):
        sign(Store(tmp_path), str(KEY), pair.key)


def test_signatures_go_with_their_artifact_and_not_with_what_a_killed_attempt_left(
    tmp_path: Path, pair: Pair
) -> None:
    store = Store(tmp_path, key=pair.key)
    artifact = build(store).artifact
    left = store.root / ".staging" / str(KEY)
    left.mkdir()
    store.remove([left])
    require_signed(store, str(KEY), pair.trusted)
    store.remove([artifact.path])
    assert KeptSignatures(store.root, str(KEY)).all() == {}


def test_what_takes_the_place_of_an_artifact_while_it_is_read_is_not_signed(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = Store(tmp_path / "home"), Store(tmp_path / "other")
    path = build(store).artifact.path
    theirs = other.build(KEY, lambda s: s.path.joinpath("config.json").write_text("other"))

    def then_replaced(directory: Path) -> list[str]:
        problems = list(wrong_content(directory))
        shutil.rmtree(path)
        shutil.copytree(theirs.artifact.path, path)
        return problems

    with monkeypatch.context() as patch:
        patch.setattr("tasks.core.store.upkeep.wrong_content", then_replaced)
        with pytest.raises(CorruptArtifact, match="rebuilt"):
            sign(store, str(KEY), pair.key)
    with pytest.raises(SignatureRefused):
        require_signed(store, str(KEY), pair.trusted)


def test_what_was_found_of_an_artifact_says_nothing_of_the_one_in_its_place(tmp_path: Path) -> None:
    path = build(Store(tmp_path / "home")).artifact.path
    theirs = Store(tmp_path / "other").build(
        KEY, lambda s: s.path.joinpath("config.json").write_text("other")
    )
    with pytest.raises(CorruptArtifact, match="rebuilt"):
        Document.of_artifact(path, theirs.artifact.manifest)


def test_what_is_signed_here_is_given_to_who_requires_it(tmp_path: Path, pair: Pair) -> None:
    store = Store(tmp_path / "home", key=pair.key)
    artifact = build(store).artifact
    assert require_signed(store, str(KEY), pair.trusted) == artifact


def test_the_signature_that_a_source_publishes_counts_as_none_of_a_key_here(
    tmp_path: Path, pair: Pair
) -> None:
    store = Store(tmp_path / "home", key=pair.key)
    build(store)
    KeptSignatures(store.root, str(KEY)).of_source.write_bytes(b"the source's")
    assert signed_by(store, str(KEY)) == (pair.key.fingerprint,)


def test_a_signature_changes_neither_the_key_nor_the_content_of_an_artifact(
    tmp_path: Path, pair: Pair
) -> None:
    signed, plain = Store(tmp_path / "signed", key=pair.key), Store(tmp_path / "plain")
    one, two = build(signed).artifact, build(plain).artifact
    assert (one.key, one.digest, one.manifest.files) == (two.key, two.digest, two.manifest.files)
    assert signed.verify() == {str(KEY): []}


def test_setting_a_key_makes_nothing_anew(tmp_path: Path, pair: Pair) -> None:
    build(Store(tmp_path / "home"))
    assert Store(tmp_path / "home", key=pair.key).build(KEY, fail).cached


def test_the_library_accepts_an_artifact_with_its_kept_signature(
    tmp_path: Path, pair: Pair
) -> None:
    store = Store(tmp_path / "home", key=pair.key)
    path = build(store).artifact.path
    signature = KeptSignatures(store.root, path.name).directory / f"{pair.key.fingerprint}.sig"
    config = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=pair.public)
    config.verify(path, signature)


def test_an_artifact_is_not_there_before_its_signature_is(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the two leaves no artifact, which is then committed again."""

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    store = Store(tmp_path / "home", key=pair.key)
    with monkeypatch.context() as patch:
        patch.setattr(KeptSignatures, "add", killed)
        with pytest.raises(Killed):
            build(store)
    assert store.find(KEY) is None
    build(store)
    require_signed(store, str(KEY), pair.trusted)
