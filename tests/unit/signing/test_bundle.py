"""Signatures over files: the library's own command line accepts ours, and nothing else passes."""

import base64
import errno
import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import model_signing
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import SignatureRefused
from tasks.core.signing import SignedFiles, opened, signature_over
from tests.signing_keys import Pair, make_pair

CLI = str(Path(sys.executable).with_name("model_signing"))
WHERE = "the model"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory with files that a signature covers, and such that it passes over."""
    model = tmp_path / "model"
    (model / "sub").mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "sub" / "model-00001-of-00001.safetensors").write_bytes(b"weights" * 1000)
    (model / ".gitattributes").write_text("* lfs")
    (model / "manifest.json").write_text("{}")
    return model


def digests(model: Path) -> dict[str, str]:
    files = [path for path in model.rglob("*") if path.is_file()]
    names = {path: path.relative_to(model).as_posix() for path in files}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path, name in names.items()
        if name not in (".gitattributes", "manifest.json", "model.sig")
    }


def signed(model: Path, pair: Pair) -> bytes:
    return signature_over("a build", digests(model), pair.key)


def with_payload(signature: bytes, change: Mapping[str, object], **outside: object) -> bytes:
    """Return the signature with another payload, which nobody has signed."""
    bundle = json.loads(signature)
    payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    payload["predicate"].update(change)
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    return json.dumps({**bundle, **outside}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"mediaType": "x"}',
        b'{"mediaType": "Cannot allocate memory"}',
    ],
)
def test_what_is_no_signature_is_refused(pair: Pair, content: bytes) -> None:
    with pytest.raises(SignatureRefused, match="signature file is not valid"):
        opened(content, pair.trusted, where=WHERE)


def test_a_signature_that_was_cut_off_is_refused_wherever_it_was_cut(
    pair: Pair, model: Path
) -> None:
    whole = signed(model, pair)
    for end in range(0, len(whole) - 1, 97):
        with pytest.raises(SignatureRefused):
            opened(whole[:end], pair.trusted, where=WHERE)


def test_a_huge_signature_is_refused_unread(pair: Pair) -> None:
    with pytest.raises(SignatureRefused, match="not valid") as refused:
        opened(b" " * (17 << 20), pair.trusted, where=WHERE)
    assert refused.value.found == f"{17 << 20} bytes"


@pytest.mark.parametrize(
    "raised", [MemoryError(), OSError(errno.EMFILE, "full"), OSError(errno.ENOMEM, "full")]
)
def test_what_the_machine_has_no_room_for_says_nothing_about_a_signature(
    pair: Pair, model: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    def short_of_room(*_: object) -> None:
        raise raised

    monkeypatch.setattr("sigstore_models.bundle.v1.Bundle.from_dict", short_of_room)
    with pytest.raises(type(raised)) as passed:
        opened(signed(model, pair), pair.trusted, where=WHERE)
    assert passed.value is raised


def test_a_signature_of_another_key_is_refused_with_both(
    pair: Pair, model: Path, tmp_path: Path
) -> None:
    other = make_pair(tmp_path)
    with pytest.raises(SignatureRefused, match="with a key that is not trusted") as refused:
        opened(signed(model, other), pair.trusted, where=WHERE)
    assert (refused.value.expected, refused.value.found) == (
        pair.key.fingerprint,
        other.key.fingerprint,
    )


def test_a_signature_that_only_says_that_a_trusted_key_has_made_it_is_refused(
    pair: Pair, model: Path, tmp_path: Path
) -> None:
    bundle = json.loads(signed(model, make_pair(tmp_path)))
    bundle["verificationMaterial"]["publicKey"]["hint"] = pair.key.fingerprint
    with pytest.raises(SignatureRefused, match="not valid"):
        opened(json.dumps(bundle).encode(), pair.trusted, where=WHERE)


def test_a_signature_that_names_no_key_is_refused(pair: Pair, model: Path) -> None:
    bundle = json.loads(signed(model, pair))
    del bundle["verificationMaterial"]["publicKey"]["hint"]
    with pytest.raises(SignatureRefused):
        opened(json.dumps(bundle).encode(), pair.trusted, where=WHERE)


def test_a_payload_that_was_exchanged_is_refused(pair: Pair, model: Path) -> None:
    evil = [{"name": "evil.py", "algorithm": "sha256", "digest": "00" * 32}]
    with pytest.raises(SignatureRefused, match="not valid"):
        opened(with_payload(signed(model, pair), {"resources": evil}), pair.trusted, where=WHERE)


@pytest.mark.parametrize("name", ["../../.bashrc", "/etc/passwd", "a\\b", "sub/../../x"])
def test_a_name_that_leaves_the_directory_is_refused_though_it_was_signed(
    pair: Pair, name: str
) -> None:
    signature = signature_over("a build", {name: "00" * 32}, pair.key)
    with pytest.raises(SignatureRefused, match="not valid") as refused:
        opened(signature, pair.trusted, where=WHERE)
    assert "outside its directory" in str(refused.value.found)


def test_a_signature_over_parts_of_files_is_refused_in_words(
    pair: Pair, model: Path, tmp_path: Path
) -> None:
    hashing = model_signing.hashing.Config().use_shard_serialization(shard_size=1000)
    config = model_signing.signing.Config().set_hashing_config(hashing)
    config.use_elliptic_key_signer(private_key=pair.private).sign(model, tmp_path / "s.sig")
    with pytest.raises(SignatureRefused, match="whole files by SHA-256"):
        opened((tmp_path / "s.sig").read_bytes(), pair.trusted, where=WHERE)


@given(st.data())
def test_a_changed_byte_gives_the_same_or_is_refused(data: st.DataObject) -> None:
    """Never anything else: no other file list, no other exception."""
    whole, before, keys = _SAMPLE
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    with suppress(SignatureRefused):
        assert opened(changed, keys, where=WHERE) == before


def _sample() -> tuple[bytes, SignedFiles, tuple[object, ...]]:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        pair = make_pair(Path(directory))
        whole = signature_over("sample", {"config.json": "ab" * 32}, pair.key)
        return whole, opened(whole, pair.trusted, where=WHERE), pair.trusted


_SAMPLE = _sample()


def test_ours_opens_to_what_was_signed(pair: Pair, model: Path) -> None:
    found = opened(signed(model, pair), pair.trusted, where=WHERE)
    assert (found.name, found.files, found.key) == ("a build", digests(model), pair.key.public)


def test_the_librarys_own_command_line_accepts_ours(pair: Pair, model: Path) -> None:
    (model / "model.sig").write_bytes(signed(model, pair))
    verify = [CLI, "verify", "key", str(model), "--signature", str(model / "model.sig")]
    done = subprocess.run(
        [*verify, "--public_key", str(pair.public)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Verification succeeded" in done.stdout


@pytest.mark.parametrize("how", ["changed", "added", "removed"])
def test_the_library_refuses_what_was_tampered_with(pair: Pair, model: Path, how: str) -> None:
    (model / "model.sig").write_bytes(signed(model, pair))
    shard = model / "sub" / "model-00001-of-00001.safetensors"
    if how == "added":
        (model / "evil.py").write_text("")
    elif how == "removed":
        shard.unlink()
    else:
        shard.write_bytes(b"Weights" + shard.read_bytes()[7:])
    config = model_signing.verifying.Config()
    config.use_elliptic_key_verifier(public_key=pair.public)
    with pytest.raises(ValueError, match="Signature mismatch"):
        config.verify(model, model / "model.sig")


def test_what_the_library_signs_is_opened(pair: Pair, model: Path, tmp_path: Path) -> None:
    (model / "manifest.json").unlink()
    config = model_signing.signing.Config().use_elliptic_key_signer(private_key=pair.private)
    config.sign(model, tmp_path / "model.sig")
    found = opened((tmp_path / "model.sig").read_bytes(), pair.trusted, where=WHERE)
    assert found.files == digests(model)


def test_every_difference_is_named(pair: Pair, model: Path) -> None:
    found = opened(signed(model, pair), pair.trusted, where=WHERE)
    there = {"config.json": "00" * 32, "evil.py": "11" * 32}
    with pytest.raises(SignatureRefused, match="not what was signed") as refused:
        found.require(there, where=WHERE, needed=found.files)
    assert refused.value.found == (
        "evil.py was not signed; sub/model-00001-of-00001.safetensors is missing; "
        "config.json has other bytes than were signed"
    )
