"""Pairs of keys to sign with, made on the spot."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tasks.core.signing import KEY_VARIABLE, PublicKey, SigningKey, key_of, public_keys


@dataclass(frozen=True)
class Pair:
    """The files of a pair of keys."""

    private: Path
    public: Path

    @property
    def key(self) -> SigningKey:
        return key_of(self.public, {KEY_VARIABLE: str(self.private)})

    @property
    def trusted(self) -> tuple[PublicKey, ...]:
        return public_keys(self.public)

    def use(self, patch: pytest.MonkeyPatch) -> None:
        """Let this process sign with it."""
        patch.setenv(KEY_VARIABLE, str(self.private))


def make_pair(
    directory: Path,
    name: str = "key",
    *,
    curve: ec.EllipticCurve | None = None,
    password: str | None = None,
) -> Pair:
    """Make a pair of keys in a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(curve or ec.SECP256R1())
    how = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    pair = Pair(directory / f"{name}.pem", directory / f"{name}.pub")
    pair.private.touch(mode=0o600)
    pair.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))
    spki = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    pair.public.write_bytes(spki)
    return pair
