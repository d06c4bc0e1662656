"""The pseudonym of a person: a hash of the client's id, with a salt of the deployment.

The invariant: the id itself is never written. Without the salt a hash reveals nothing, and the same
person has a different hash in every deployment.
"""

import hashlib
import hmac
import secrets
from pathlib import Path

from tasks.core.collected.storage.directory import SALT, day_files
from tasks.core.errors import UsageError
from tasks.core.files.foreign import read_whole
from tasks.core.files.private import write_private

_SALT_BYTES = 32
_DIGITS = 32


def salt_of(directory: Path) -> bytes:
    """Return the salt of a directory of collected answers, created if there are none yet.

    The caller holds the lock. Raises UsageError if the file is damaged, or missing although answers
    exist: with another salt people could no longer have their answers deleted.
    """
    path = directory / SALT
    try:
        salt = read_whole(path, error=UsageError, max_bytes=_SALT_BYTES)
    except FileNotFoundError:
        if day_files(directory):  # a new salt would silently keep them from deletion
            raise _damaged(path, "no file") from None
        write_private(path, secrets.token_bytes(_SALT_BYTES))
        return read_whole(path, error=UsageError, max_bytes=_SALT_BYTES)
    if len(salt) != _SALT_BYTES:
        raise _damaged(path, f"{len(salt)} bytes")
    return salt


def person_of(client: str, user: str, salt: bytes) -> str:
    """Return the pseudonym of a user: 32 hexadecimal digits of HMAC-SHA-256.

    client is the name of the API key: the same id with another key is another person.
    """
    words = f"{client}\0{user}".encode()  # the name of a key has no NUL
    return hmac.new(salt, words, hashlib.sha256).hexdigest()[:_DIGITS]


def _damaged(path: Path, found: str) -> UsageError:
    return UsageError(
        "The salt of the collected answers is damaged.",
        where=path,
        expected=f"{_SALT_BYTES} bytes",
        found=found,
        next_step="Restore it from a backup. Without it, what is kept can no longer be deleted "
        "person by person: remove the directory to begin anew.",
    )
