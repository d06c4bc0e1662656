"""Who may ask: keys from a file or the environment, each with a name and limits.

The file is YAML or JSON, a list of entries; a key stands in it as it is, or as its SHA-256:

    - name: backend
      key_sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
      requests_at_once: 8
      requests_per_minute: 120
      answer_tokens: 1024
    - name: rina
      key: at-least-16-characters
      reviewer: true

KAWAN_USAHA_API_KEYS holds keys without limits, and none of a reviewer: `name:key` or only `key`,
separated by commas. The invariant: a key is kept as its digest only, and no message holds one.
"""

import hashlib
import hmac
import os
import stat
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from starlette.requests import HTTPConnection
from starlette.types import Scope

from tasks.core.errors import UsageError
from tasks.core.files.yaml_text import NotYaml, read_yaml
from tasks.core.serving.client.key_variables import API_KEYS_VARIABLE
from tasks.core.serving.gateway.api_error import ApiError, FastChatCode

_MINUTE_S = 60.0
_SHORTEST = 16
_MAX_BYTES = 1 << 20  # some ten thousand keys
_AtLeastOne = Annotated[int, Field(ge=1)]


class KeyEntry(BaseModel):
    """One key: who has it, and how much this client may ask."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str = Field(pattern=r"^[\w.-]{1,64}$")
    key: str | None = Field(None, min_length=_SHORTEST, repr=False)
    key_sha256: str | None = Field(None, pattern=r"^[0-9a-fA-F]{64}$", repr=False)
    requests_at_once: _AtLeastOne | None = None
    requests_per_minute: _AtLeastOne | None = None
    answer_tokens: _AtLeastOne | None = None
    reviewer: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.key is None) == (self.key_sha256 is None):
            raise ValueError("exactly one of key and key_sha256 must be given")
        return self

    def digest(self) -> bytes:
        """Return the SHA-256 of the key."""
        if self.key is not None:
            return hashlib.sha256(self.key.encode()).digest()
        return bytes.fromhex(self.key_sha256 or "")


@dataclass
class Client:
    """A client of the gateway, with its limits and its requests in progress."""

    name: str
    requests_at_once: int | None = None
    requests_per_minute: int | None = None
    answer_tokens: int | None = None
    reviewer: bool = False
    _running: int = 0
    _begun: deque[float] = field(default_factory=deque)

    @contextmanager
    def one_request(self) -> Iterator[None]:
        """Count one request while it runs. Raises ApiError beyond a limit."""
        now = time.monotonic()
        while self._begun and now - self._begun[0] >= _MINUTE_S:
            self._begun.popleft()
        if self.requests_at_once is not None and self._running >= self.requests_at_once:
            raise _too_many(f"{self.requests_at_once} requests at once", 1)
        if self.requests_per_minute is not None:
            if len(self._begun) >= self.requests_per_minute:
                wait_s = int(self._begun[0] + _MINUTE_S - now) + 1
                raise _too_many(f"{self.requests_per_minute} requests a minute", wait_s)
            self._begun.append(now)
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    def limited_as(self, entry: KeyEntry) -> "Client":
        """Apply the limits and permissions of an entry; return this client."""
        self.requests_at_once = entry.requests_at_once
        self.requests_per_minute = entry.requests_per_minute
        self.answer_tokens = entry.answer_tokens
        self.reviewer = entry.reviewer
        return self

    def require_reviewer(self) -> None:
        """Raise ApiError unless this client may read and review what people have asked."""
        if not self.reviewer:
            raise ApiError(
                FastChatCode.NO_PERMISSION,
                "Collected answers are for reviewers: keys with `reviewer: true` in the file that "
                "deploy.gateway.keys_file names.",
            )


_PLACE = "kawan_usaha_client"


def put_client(scope: Scope, client: Client) -> None:
    """Attach the client to its request."""
    scope[_PLACE] = client


def client_of(request: HTTPConnection) -> Client:
    """Return the client of a request."""
    client: Client = request.scope[_PLACE]
    return client


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
        self._fixed = _of_environment(environment.get(API_KEYS_VARIABLE, ""))
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
            entries += _of_file(self._file)
            self._seen = seen
        names = [entry.name for entry in entries]
        if len(set(names)) < len(names):
            raise _unusable(self._file or API_KEYS_VARIABLE, "two keys of the same name")
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


def _of_environment(text: str) -> list[KeyEntry]:
    entries = []
    for place, part in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
        name, _, key = part.rpartition(":")
        try:
            entries.append(KeyEntry.model_validate({"name": name or f"key-{place}", "key": key}))
        except ValidationError as error:
            raise _unusable(f"{API_KEYS_VARIABLE}, key {place}", _first(error)) from None
    return entries


def _of_file(file: Path) -> list[KeyEntry]:
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            if stat.S_IMODE(mode) & 0o077:
                raise _unusable(
                    file,
                    f"mode {stat.S_IMODE(mode):04o}: others may read or write it",
                    next_step=f"chmod 600 {file}",
                )
            text = opened.read(_MAX_BYTES + 1).decode("utf-8-sig")
        content, repeated = read_yaml(text, max_characters=_MAX_BYTES)
        if repeated:  # without its name, which may be a misplaced key
            raise _unusable(file, "a field that stands twice in an entry")
        return TypeAdapter(list[KeyEntry]).validate_python(content)
    except OSError as error:
        raise _unusable(file, error.strerror) from None
    except (NotYaml, UnicodeDecodeError):  # their messages quote the file
        raise _unusable(file, "neither YAML nor JSON") from None
    except ValidationError as error:
        raise _unusable(file, _first(error)) from None


def _first(error: ValidationError) -> str:
    """Return the first fault, without the value, which may be a key."""
    fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
    return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}".lstrip(": ")


def _signature(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


def _unusable(where: object, found: object, next_step: str | None = None) -> UsageError:
    return UsageError(
        "The API keys cannot be used.",
        where=where,
        expected=f"a list of entries with name and key (of {_SHORTEST} characters or more) or "
        "key_sha256, in a file of mode 0600",
        found=found,
        next_step=next_step or "docs/gateway.md shows such a file.",
    )


def _too_many(what: str, retry_after_s: int) -> ApiError:
    return ApiError(
        FastChatCode.RATE_LIMIT,
        f"This key allows {what}.",
        retry_after_s=retry_after_s,
    )
