"""Keys of signatures: whatever is wrong with one is told before it is used, and never shown."""

import base64
import hashlib
import pickle
import re
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tasks.core.errors import SigningKeyUnusable
from tasks.core.home import PROJECT
from tasks.core.signing import KEY_VARIABLE, configured_key, key_of, public_keys
from tasks.core.signing.keys import PASSWORD_VARIABLE
from tasks.core.store.seals import TRUSTED_VARIABLE, configured_seals
from tests.signing_keys import Pair, make_pair


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("keys"))


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    pair.private.chmod(0o640)
    with pytest.raises(SigningKeyUnusable, match="Other users can read") as refused:
        _ = pair.key
    assert refused.value.found == "mode 0640"


def test_a_key_that_is_not_named_is_told_with_the_variable(pair: Pair) -> None:
    with pytest.raises(SigningKeyUnusable, match="no key to sign with") as refused:
        key_of(pair.public, {})
    assert refused.value.where == KEY_VARIABLE


def test_the_key_of_another_public_one_is_refused(pair: Pair, tmp_path: Path) -> None:
    other = make_pair(tmp_path)
    with pytest.raises(SigningKeyUnusable, match="not belong to the public key") as refused:
        key_of(other.public, {KEY_VARIABLE: str(pair.private)})
    assert refused.value.found == pair.key.fingerprint
    assert other.key.fingerprint in str(refused.value.expected)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "no public key in PEM"),
        (b"not a key", "no public key in PEM"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", ""),
        (b"\xff\x00", "no public key in PEM"),
    ],
)
def test_what_is_no_public_key_is_refused(tmp_path: Path, content: bytes, found: str) -> None:
    (tmp_path / "key.pub").write_bytes(content)
    with pytest.raises(SigningKeyUnusable, match="cannot make model signatures") as refused:
        public_keys(tmp_path / "key.pub")
    assert found in str(refused.value.found)


def test_a_private_key_in_place_of_the_public_one_is_told_and_not_shown(pair: Pair) -> None:
    with pytest.raises(SigningKeyUnusable, match="private key") as refused:
        public_keys(pair.private)
    assert pair.private.read_text().splitlines()[1] not in str(refused.value)


def test_a_key_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyUnusable, match="cannot be read") as refused:
        public_keys(tmp_path / "none.pub")
    assert refused.value.where == str(tmp_path / "none.pub")
    with pytest.raises(SigningKeyUnusable, match="cannot be read") as refused:
        configured_key({KEY_VARIABLE: str(tmp_path / "none.pem")})
    assert refused.value.where == str(tmp_path / "none.pem")
    with pytest.raises(SigningKeyUnusable, match="cannot be read") as refused:
        configured_key({KEY_VARIABLE: "none.pem"})
    assert refused.value.where == KEY_VARIABLE
    assert "the absolute path" in str(refused.value.expected)


FORMS: dict[str, Callable[[str], str]] = {
    "in quotes": lambda pem: f'"{pem}"',
    "on one line": repr,
    "in base64": lambda pem: base64.b64encode(pem.encode()).decode(),
    "without its first line": lambda pem: pem.partition("\n")[2],
    "one line of it": lambda pem: pem.splitlines()[1],
    "after a byte order mark": lambda pem: f"\ufeff{pem}",
    "after a comment": lambda pem: f"# /the/key\n{pem}",
    "after a path": lambda pem: f"/the/key\n{pem}",
    "with a NUL": lambda pem: f"/{pem}\0",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_key_that_is_taken_for_a_path_is_not_shown(pair: Pair, form: str) -> None:
    pem = pair.private.read_text()
    text = FORMS[form](pem)
    with pytest.raises(SigningKeyUnusable) as refused:
        configured_key({KEY_VARIABLE: text})
    told = "".join(traceback.format_exception(refused.value))  # as the log keeps it
    assert text.strip() not in told
    assert not any(line in told for line in pem.splitlines())
    assert refused.value.where == KEY_VARIABLE
    assert refused.value.__context__ is None


def test_a_home_directory_that_is_not_known_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SigningKeyUnusable, match=KEY_VARIABLE) as refused:
        configured_key({KEY_VARIABLE: "~nosuch/key.pem"})
    assert refused.value.where == "~nosuch/key.pem"
    monkeypatch.setenv(TRUSTED_VARIABLE, "~nosuch/keys.pub")
    with pytest.raises(SigningKeyUnusable, match=TRUSTED_VARIABLE):
        configured_seals()


@pytest.mark.parametrize("kind", ["ed25519", "secp256k1"])
def test_a_key_of_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    key = (
        ed25519.Ed25519PrivateKey.generate()
        if kind == "ed25519"
        else ec.generate_private_key(ec.SECP256K1())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(SigningKeyUnusable, match="cannot make model signatures"):
        configured_key({KEY_VARIABLE: private})
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pub").write_bytes(public)
    with pytest.raises(SigningKeyUnusable, match="cannot make model signatures"):
        public_keys(tmp_path / "key.pub")


@pytest.mark.parametrize(
    ("password", "found"), [(None, "no password"), ("sesame", "a password"), ("", "no password")]
)
def test_a_wrong_password_is_told_and_not_shown(
    tmp_path: Path, password: str | None, found: str
) -> None:
    pair = make_pair(tmp_path, password="right")
    given = {} if password is None else {PASSWORD_VARIABLE: password}
    with pytest.raises(SigningKeyUnusable, match="cannot be decrypted") as refused:
        configured_key({KEY_VARIABLE: str(pair.private), **given})
    assert refused.value.found == found
    assert "sesame" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_an_encrypted_key_opens_with_its_password(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, password="right")
    key = configured_key({KEY_VARIABLE: str(pair.private), PASSWORD_VARIABLE: "right"})
    assert key is not None
    assert key.public == pair.trusted[0]


def test_a_key_may_stand_in_the_environment_itself(pair: Pair) -> None:
    """As a Prefect Secret block puts it into the environment of a job."""
    assert key_of(pair.public, {KEY_VARIABLE: pair.private.read_text()}) == pair.key


def test_a_password_for_a_key_without_one_does_no_harm(pair: Pair) -> None:
    given = {KEY_VARIABLE: str(pair.private), PASSWORD_VARIABLE: "needless"}
    assert configured_key(given) == pair.key


def test_a_key_shows_its_fingerprint_alone_and_is_not_pickled(pair: Pair) -> None:
    secret = pair.private.read_text().splitlines()[1]
    assert repr(pair.key) == f"SigningKey(public=PublicKey(fingerprint='{pair.key.fingerprint}'))"
    assert secret not in repr(vars(pair.key))
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(pair.key)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_a_fingerprint_is_the_sha256_of_the_file_of_the_public_key(
    tmp_path: Path, curve: ec.EllipticCurve
) -> None:
    pair = make_pair(tmp_path, curve=curve)
    assert pair.key.fingerprint == hashlib.sha256(pair.public.read_bytes()).hexdigest()


def test_a_file_may_hold_several_public_keys(pair: Pair, tmp_path: Path) -> None:
    other = make_pair(tmp_path)
    both = tmp_path / "both.pub"
    both.write_bytes(other.public.read_bytes() + b"# the old one\n" + pair.public.read_bytes())
    assert public_keys(both) == (*other.trusted, *pair.trusted)
    assert key_of(both, {KEY_VARIABLE: str(pair.private)}) == pair.key


def test_the_commands_of_the_page_make_a_pair_that_signs(tmp_path: Path) -> None:
    page = (PROJECT / "docs" / "signing.md").read_text()
    (commands,) = re.findall(r"```sh\n(umask 077.*?)```", page, re.DOTALL)
    subprocess.run(["bash", "-ec", commands], cwd=tmp_path, check=True, capture_output=True)
    key = key_of(tmp_path / "kawan-usaha.pub", {KEY_VARIABLE: str(tmp_path / "kawan-usaha.pem")})
    summed = subprocess.run(
        ["sha256sum", tmp_path / "kawan-usaha.pub"], check=True, capture_output=True, text=True
    )
    assert summed.stdout.split()[0] == key.fingerprint
