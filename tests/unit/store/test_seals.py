"""Signed artifacts: a remote store gives nothing that a trusted key has not signed."""

import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.core.errors import SignatureRefused
from tasks.core.keys import StageKey, stage_key
from tasks.core.storage.directory import StorageDirectory
from tasks.core.store import Built, RemoteStore, RunStore, Staging, Store
from tasks.core.store.releases import share_release, take_releases
from tasks.core.store.runs import RunRecords
from tasks.core.store.seals import TRUSTED_VARIABLE, Document, Seals, configured_seals
from tasks.core.store.signed import require_signed, sign, signed_by
from tests.signing_keys import Pair, make_pair

KEY = stage_key("merge", 1, {"dtype": "float16"})


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("others"))


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}"


Sealed = Callable[..., Store]


@pytest.fixture
def sealed(url: str, tmp_path: Path, said: list[str]) -> Sealed:
    """Make the store of a machine that signs with one pair and trusts another."""

    def make(name: str, signs: Pair | None = None, trusts: Pair | None = None) -> Store:
        key = None if signs is None else signs.key
        remote = RemoteStore.open(url, Seals(key, None if trusts is None else trusts.trusted))
        return Store(tmp_path / name, say=said.append, remote=remote, key=key)

    return make


def two_files(staging: Staging) -> None:
    (staging.path / "model.bin").write_bytes(b"weights" * 10_000)
    (staging.path / "config.json").write_text("{}")


def other_bytes(staging: Staging) -> None:
    (staging.path / "model.bin").write_bytes(b"somebody else's weights")


def fail(_: Staging) -> None:
    raise AssertionError("it was built although the remote store has it")


def build(store: Store, write: Callable[[Staging], None] = two_files) -> Built:
    return store.build(KEY, write, params={"dtype": "float16"})


def manifest_of(url: str, key: StageKey = KEY) -> dict[str, object]:
    found: dict[str, object] = json.loads(StorageDirectory.open(url).read(f"{key}/manifest.json"))
    return found


# --- what is not taken -------------------------------------------------------------------------


@pytest.mark.parametrize("signs", ["nobody", "another key"])
def test_an_artifact_that_no_trusted_key_has_signed_is_refused(
    sealed: Sealed, pair: Pair, other: Pair, signs: str
) -> None:
    build(sealed("first", other if signs == "another key" else None))
    second = sealed("second", pair, pair)
    with pytest.raises(SignatureRefused, match="not signed by a key that is trusted") as refused:
        second.build(KEY, fail)
    assert pair.key.fingerprint in str(refused.value.expected)
    assert second.find(KEY) is None


def test_a_manifest_that_somebody_has_changed_is_not_taken(
    sealed: Sealed, url: str, pair: Pair
) -> None:
    """With the files to it: all that who writes to the bucket can do."""
    build(sealed("first", pair))
    place = StorageDirectory.open(url)
    manifest = manifest_of(url)
    evil = b"evil weights"
    sha256 = hashlib.sha256(evil).hexdigest()
    manifest["files"]["model.bin"] = {"size_bytes": len(evil), "sha256": sha256}  # type: ignore[index]
    place.replace(f"files/{sha256}", evil)
    place.replace(f"{KEY}/manifest.json", json.dumps(manifest).encode())
    second = sealed("second", trusts=pair)
    with pytest.raises(SignatureRefused):
        second.build(KEY, fail)
    assert second.find(KEY) is None
    assert sealed("careless").build(KEY, fail).cached  # as before there were signatures


def test_a_signature_of_another_artifact_is_not_taken_for_this_one(
    sealed: Sealed, url: str, pair: Pair
) -> None:
    build(sealed("first"))
    theirs = stage_key("merge", 1, {"dtype": "bfloat16"})
    sealed("signer", pair).build(theirs, other_bytes)
    place = StorageDirectory.open(url)
    signatures = {name: place.read(f"signatures/{name}") for name in place.files("signatures")}
    ((name, signature),) = signatures.items()
    sha256 = hashlib.sha256(place.read(f"{KEY}/manifest.json")).hexdigest()
    place.replace(f"signatures/{sha256}/{Path(name).name}", signature)
    with pytest.raises(SignatureRefused, match="not what was signed"):
        sealed("second", trusts=pair).build(KEY, fail)


@pytest.mark.parametrize("left", [0, 100, -1])
def test_a_signature_that_was_cut_off_is_refused(
    sealed: Sealed, url: str, pair: Pair, left: int
) -> None:
    build(sealed("first", pair))
    place = StorageDirectory.open(url)
    (name,) = place.files("signatures")
    place.replace(f"signatures/{name}", place.read(f"signatures/{name}")[:left])
    with pytest.raises(SignatureRefused, match="not valid"):
        sealed("second", trusts=pair).build(KEY, fail)


def test_a_changed_file_of_a_signed_artifact_is_not_taken_and_made_anew(
    sealed: Sealed, url: str, pair: Pair
) -> None:
    first = build(sealed("first", pair))
    sha256 = first.artifact.manifest.files["model.bin"].sha256
    StorageDirectory.open(url).replace(f"files/{sha256}", b"Weights" + b"weights" * 9_999)
    second = build(sealed("second", pair, pair))
    assert not second.cached
    assert second.artifact.digest == first.artifact.digest


def test_a_rival_that_is_not_trusted_does_not_take_the_place_of_what_is_built_here(
    sealed: Sealed, pair: Pair
) -> None:
    second = sealed("second", pair, pair)

    def while_another_is_first(staging: Staging) -> None:
        sealed("first").build(KEY, other_bytes)
        two_files(staging)

    with pytest.raises(SignatureRefused):
        second.build(KEY, while_another_is_first)
    found = second.find(KEY)
    assert found is not None
    assert (found.path / "config.json").exists()


def test_unfinished_work_that_nobody_trusted_has_left_is_not_gone_on_from(
    sealed: Sealed, url: str, pair: Pair, said: list[str]
) -> None:
    for signs, gone_on in ((None, False), (pair, True)):
        key = stage_key("finetune", 1, {"signed": gone_on})
        _leave_unfinished(sealed(f"first {gone_on}", signs), key)
        assert StorageDirectory.open(url).exists(f"staging/{key}/state.json")
        found: list[str] = []

        def look(staging: Staging, found: list[str] = found) -> None:
            with staging.handed_over(lambda: sorted(staging.path.glob("step-*"))):
                found += [path.name for path in staging.path.glob("step-*")]
            (staging.path / "model.bin").touch()

        sealed(f"second {gone_on}", pair, pair).build(key, look)
        assert found == (["step-1"] if gone_on else [])
    assert any("cannot be resumed" in line for line in said)


def _leave_unfinished(store: Store, key: StageKey) -> None:
    class Lost(Exception):
        pass

    def write(staging: Staging) -> None:
        with staging.handed_over(lambda: sorted(staging.path.glob("step-*"))):
            (staging.path / "step-1").write_text("a state")
            raise Lost

    with pytest.raises(Lost):
        store.build(key, write)


def test_a_release_that_nobody_trusted_has_told_does_not_count(
    sealed: Sealed, url: str, pair: Pair, tmp_path: Path
) -> None:
    def told_by(signs: Pair | None) -> list[str]:
        own = RunRecords(tmp_path / "one")
        run = own.start("demo")
        run.release(str(KEY))
        share_release(RemoteStore.open(url, Seals(None if signs is None else signs.key)), run, own)
        records = RunRecords(tmp_path / "two")
        take_releases(RemoteStore.open(url, Seals(trusted=pair.trusted)), records, "demo")
        return records.releases("demo")

    assert told_by(None) == []
    assert told_by(pair) == [str(KEY)]


def test_a_signature_of_the_same_words_does_not_pass_for_those_of_something_else(
    pair: Pair,
) -> None:
    """As the checkpoint of another training, put in the place of this one's."""
    theirs = Document("finetune-1", "state.json", b"{}", {})
    signature = theirs.signed_with(pair.key)
    theirs.require(signature, pair.trusted, where="there")
    for ours in (replace(theirs, name="finetune-2"), replace(theirs, kind="release.json")):
        with pytest.raises(SignatureRefused):
            ours.require(signature, pair.trusted, where="there")


def test_a_large_artifact_that_nobody_trusted_has_signed_is_not_counted_on_either(
    sealed: Sealed, url: str, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be fetched only later: its manifest alone makes the keys of later stages."""
    monkeypatch.setattr("tasks.core.store.run.FETCHED_AT_ONCE_BYTES", 0)
    build(sealed("first"))
    home = tmp_path / "second"
    remote = RemoteStore.open(url, Seals(trusted=pair.trusted))
    store = RunStore(home, RunRecords(home).start("demo"), remote=remote)
    with pytest.raises(SignatureRefused):
        store.build(KEY, fail)
    assert store.freed(str(KEY)) is None


def test_a_broken_signature_of_one_trusted_key_does_not_hide_that_of_another(
    sealed: Sealed, url: str, pair: Pair, other: Pair, tmp_path: Path
) -> None:
    build(sealed("first", pair))
    place = StorageDirectory.open(url)
    (name,) = place.files("signatures")
    place.replace(f"signatures/{Path(name).parent}/{other.key.fingerprint}.sig", b"broken")
    remote = RemoteStore.open(url, Seals(trusted=(*other.trusted, *pair.trusted)))
    assert Store(tmp_path / "second", remote=remote).build(KEY, fail).cached


def test_what_came_from_elsewhere_is_not_signed_here_by_itself(
    sealed: Sealed, pair: Pair, other: Pair
) -> None:
    build(sealed("first"))
    second = sealed("second", pair)
    assert second.build(KEY, fail).cached
    assert signed_by(second, str(KEY)) == ()


# --- what is ---------------------------------------------------------------------------------


def test_what_a_trusted_key_has_signed_is_taken_and_keeps_its_signature(
    sealed: Sealed, pair: Pair
) -> None:
    build(sealed("first", pair))
    second = sealed("second", trusts=pair)
    assert second.build(KEY, fail).cached
    require_signed(second, str(KEY), pair.trusted)
    assert signed_by(second, str(KEY)) == (pair.key.fingerprint,)


def test_what_was_built_before_there_was_a_key_is_signed_by_hand_and_then_taken(
    sealed: Sealed, pair: Pair
) -> None:
    first = sealed("first")
    build(first)
    sign(first, str(KEY), pair.key)
    first.push(str(KEY))
    assert sealed("second", trusts=pair).build(KEY, fail).cached


def test_a_broken_signature_is_mended_by_a_push(sealed: Sealed, url: str, pair: Pair) -> None:
    first = sealed("first", pair)
    build(first)
    place = StorageDirectory.open(url)
    (name,) = place.files("signatures")
    place.replace(f"signatures/{name}", b"broken")
    first.push(str(KEY))
    assert sealed("second", trusts=pair).build(KEY, fail).cached


def test_one_of_several_trusted_keys_is_enough(
    url: str, sealed: Sealed, pair: Pair, other: Pair, tmp_path: Path
) -> None:
    build(sealed("first", pair))
    remote = RemoteStore.open(url, Seals(trusted=(*other.trusted, *pair.trusted)))
    assert Store(tmp_path / "second", remote=remote).build(KEY, fail).cached


def test_a_signature_that_only_the_remote_store_has_is_found_when_it_is_asked_for(
    sealed: Sealed, pair: Pair
) -> None:
    build(sealed("first", pair))
    second = sealed("second")
    artifact = second.build(KEY, fail).artifact
    assert signed_by(second, str(KEY)) == ()
    assert require_signed(second, str(KEY), pair.trusted) == artifact
    assert signed_by(second, str(KEY)) == (pair.key.fingerprint,)


# --- which keys -------------------------------------------------------------------------------


def test_the_environment_names_the_key_and_those_that_are_trusted(
    pair: Pair, other: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert configured_seals() == Seals()
    pair.use(monkeypatch)
    monkeypatch.setenv(TRUSTED_VARIABLE, str(other.public))
    assert configured_seals() == Seals(pair.key, other.trusted)


@pytest.mark.parametrize(
    ("signs", "trusts", "trusted"),
    [
        (None, None, True),
        ("pair", None, True),
        ("pair", "pair", True),
        ("pair", "other", False),
        (None, "other", False),
    ],
)
def test_a_machine_is_trusted_by_its_like_if_its_key_is(
    pair: Pair, other: Pair, signs: str | None, trusts: str | None, trusted: bool
) -> None:
    pairs = {"pair": pair, "other": other}
    key = pairs[signs].key if signs else None
    assert Seals(key, pairs[trusts].trusted if trusts else None).trusts_itself is trusted
