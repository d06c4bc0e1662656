"""Routes of the embedded Hub that move file contents: LFS uploads, and reading with ranges."""

import hmac
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from tasks.core.demo.hub.access import require_terms
from tasks.core.demo.hub.answers import HubRefusal, entry_not_found
from tasks.core.demo.hub.state import HubState, Readable, Requester, Writable, split_revision

router = APIRouter()


class LfsObject(BaseModel):
    """A content that a client wants to upload."""

    oid: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class LfsBatch(BaseModel):
    """What the LFS batch call sends."""

    operation: str
    objects: list[LfsObject]


@router.post("/{owner}/{name}.git/info/lfs/objects/batch")
def lfs_batch(
    repository: Writable, batch: LfsBatch, hub: HubState, request: Request
) -> dict[str, Any]:
    """Return where to upload each content; nothing for those that are here already.

    Format: git-lfs docs/api/batch.md, transfer adapter "basic".
    """
    if batch.operation != "upload":
        raise HubRefusal(400, "Only uploads go through LFS here; read with /resolve/")
    objects: list[dict[str, Any]] = []
    for wanted in batch.objects:
        answer: dict[str, Any] = {"oid": wanted.oid, "size": wanted.size}
        if not hub.blobs.has(wanted.oid):
            signature = hub.sign(wanted.oid, wanted.size)
            place = f"{request.base_url}lfs/{wanted.oid}?size={wanted.size}&signature={signature}"
            answer["actions"] = {"upload": {"href": place}}
        objects.append(answer)
    return {"transfer": "basic", "objects": objects}


@router.put("/lfs/{oid}")
async def lfs_upload(
    oid: str, size: int, signature: str, request: Request, hub: HubState
) -> dict[str, Any]:
    """Take a content, and keep it only if it is the one that was announced."""
    if not hmac.compare_digest(signature, hub.sign(oid, size)):
        raise HubRefusal(403, "This server did not issue the upload address")
    with hub.blobs.receive() as incoming:
        async for chunk in request.stream():
            incoming.write(chunk)
        if (incoming.sha256, incoming.size_bytes) != (oid, size):
            raise HubRefusal(400, f"Content does not match: {size} bytes of SHA-256 {oid} expected")
        await run_in_threadpool(hub.blobs.keep, incoming)
    return {}


@router.api_route("/{owner}/{name}/resolve/{tail:path}", methods=["GET", "HEAD"])
def read_file(
    repository: Readable, request: Request, hub: HubState, caller: Requester
) -> FileResponse:
    """Answer with a file of a revision, whole or a range of it."""
    require_terms(caller, repository)
    revision, path = split_revision(request, segment=4)
    commit = hub.repositories.commit_at(repository, revision)
    file = commit.files.get(path)
    if file is None:
        raise entry_not_found(path)
    headers = {"X-Repo-Commit": commit.id, "ETag": f'"{file.etag}"'}
    if file.lfs:
        headers["X-Linked-Size"] = str(file.size_bytes)
        headers["X-Linked-Etag"] = f'"{file.etag}"'
    return FileResponse(
        hub.blobs.path(file.sha256),
        headers=headers,
        media_type="application/octet-stream",
        filename=path.rsplit("/", 1)[-1],
    )
