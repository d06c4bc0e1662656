"""What the routes of the embedded Hub share, and how a route learns who asks for which repository.

The routes name these as their parameters: `Readable` is a repository that the client may see,
`Writable` one that it may change; both refuse before the route runs.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import unquote

from fastapi import Depends, Request

from tasks.core.demo.hub.access import (
    HubAccount,
    Tokens,
    authenticated,
    require_reader,
    require_writer,
)
from tasks.core.demo.hub.answers import repository_not_found
from tasks.core.demo.hub.blobs import BlobStore
from tasks.core.demo.hub.records import Repository
from tasks.core.demo.hub.repositories import RepositoryStore


@dataclass(frozen=True)
class Hub:
    """The parts of one embedded Hub."""

    repositories: RepositoryStore
    blobs: BlobStore
    tokens: Tokens
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def sign(self, sha256: str, size_bytes: int) -> str:
        """Return the proof that this server allowed the upload of one content.

        The client sends no token with an LFS upload, so the address itself carries the right.
        """
        message = f"{sha256}:{size_bytes}".encode()
        return hmac.new(self.secret, message, hashlib.sha256).hexdigest()


def _hub(request: Request) -> Hub:
    hub: Hub = request.app.state.hub
    return hub


HubState = Annotated[Hub, Depends(_hub)]


def _account(request: Request, hub: HubState) -> HubAccount | None:
    return authenticated(hub.tokens, request.headers.get("Authorization"))


Requester = Annotated[HubAccount | None, Depends(_account)]


def _readable(owner: str, name: str, hub: HubState, caller: Requester) -> Repository:
    repository = hub.repositories.find(f"{owner}/{name}")
    if repository is None:
        raise repository_not_found(anonymous=caller is None)
    require_reader(caller, repository)
    return repository


Readable = Annotated[Repository, Depends(_readable)]


def _writable(repository: Readable, caller: Requester) -> Repository:
    require_writer(caller, repository.id)
    return repository


Writable = Annotated[Repository, Depends(_writable)]


async def _body(request: Request) -> bytes:
    return await request.body()


RawBody = Annotated[bytes, Depends(_body)]


def split_revision(request: Request, segment: int) -> tuple[str, str]:
    """Return revision and path of an address whose revision stands in one segment.

    The client quotes the slashes of a revision but not those that part it from the path, so only
    the undecoded address can tell them apart. Segments count from 1.
    """
    raw: bytes = request.scope["raw_path"]
    parts = raw.decode("ascii").split("/", segment + 1)
    path = parts[segment + 1] if len(parts) > segment + 1 else ""
    return unquote(parts[segment]), unquote(path)
