"""The API keys in force, and which client a request belongs to.

The invariant: a key is stored only as its digest, and compared in constant time.
"""

import hashlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path

from tasks.core.serving.client.key_variables import API_KEYS_VARIABLE
from tasks.core.serving.gateway.api_error import ApiError, FastChatCode
from tasks.core.serving.gateway.clients import Client
from tasks.core.serving.gateway.key_entries import (
    entries_of_environment,
    entries_of_file,
    unusable_keys,
)

ANYBODY = "anybody"


class Keys:
    """The valid keys. Without any, all requests belong to one client, named by `anybody`."""

    def __init__(
        self,
        file: Path | None,
        environment: Mapping[str, str] = os.environ,
        *,
        anybody: str = ANYBODY,
    ) -> None:
        self._file = file
        self._anybody = anybody
        self._fixed = entries_of_environment(environment.get(API_KEYS_VARIABLE, ""))
        self._clients: dict[str, Client] = {anybody: Client(anybody)}
        self._digests: list[tuple[bytes, Client]] = []
        self._seen: tuple[int, ...] | None = None
        self.read()

    @property
    def needed(self) -> bool:
        """Whether requests need a key: if there are keys, or a file, even an empty one."""
        return self._file is not None or bool(self._digests)

    def read(self) -> int:
        """Read the file again; return how many keys there are.

        Raises UsageError for a file that cannot be used; the current keys stay valid.
        """
        entries = list(self._fixed)
        if self._file is not None:
            seen = _signature(self._file)
            entries += entries_of_file(self._file)
            self._seen = seen
        names = [entry.name for entry in entries]
        if len(set(names)) < len(names):
            raise unusable_keys(self._file or API_KEYS_VARIABLE, "two keys of the same name")
        known = self._clients
        clients = {e.name: known.get(e.name, Client(e.name)).limited_as(e) for e in entries}
        self._digests = [(entry.digest(), clients[entry.name]) for entry in entries]
        self._clients = clients or {self._anybody: Client(self._anybody)}
        return len(entries)

    def read_if_changed(self) -> None:
        """Read the file again if it has changed. Raises UsageError as `read`."""
        if self._file is not None and _signature(self._file) != self._seen:
            self._seen = _signature(self._file)  # a file that cannot be used is reported once
            self.read()

    def client(self, authorization: str | None) -> Client:
        """Return the client of an Authorization header. Raises ApiError if it has no valid key."""
        if not self.needed:
            return self._clients[self._anybody]
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise ApiError(
                FastChatCode.INVALID_AUTH_KEY,
                "An API key is required: send `Authorization: Bearer KEY`.",
            )
        offered = hashlib.sha256(key.strip().encode(errors="replace")).digest()
        found: Client | None = None
        for digest, client in self._digests:  # all of them, so that timing reveals nothing
            if hmac.compare_digest(digest, offered):
                found = client
        if found is None:
            raise ApiError(FastChatCode.INCORRECT_AUTH_KEY, "This API key is not valid.")
        return found


def _signature(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode
