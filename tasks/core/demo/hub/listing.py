"""Routes of the embedded Hub that read: model info, trees, paths, commits and refs."""

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from tasks.core.demo.hub.access import require_terms, require_writer
from tasks.core.demo.hub.answers import HubRefusal, repository_not_found
from tasks.core.demo.hub.records import Commit, Repository, StoredFile
from tasks.core.demo.hub.state import HubState, RawBody, Readable, Requester, split_revision
from tasks.core.demo.hub.trees import folder_entries, with_last_commit

router = APIRouter(prefix="/api")

_PAGE = 1000
_EXPANDED_PAGE = 50


@router.get("/whoami-v2")
def who_am_i(caller: Requester) -> dict[str, Any]:
    """Return whose token this is."""
    if caller is None:
        raise HubRefusal(401, "Invalid username or password.")
    return {
        "type": "user",
        "name": caller.user,
        "fullname": caller.user,
        "orgs": [{"type": "org", "name": name} for name in caller.organizations],
        "auth": {"type": "access_token", "accessToken": {"role": caller.role}},
    }


@router.get("/models")
def list_models(
    hub: HubState, caller: Requester, author: str | None = None
) -> list[dict[str, Any]]:
    """List the repositories that the caller may see."""
    return [
        _info(repository, hub.repositories.commit_at(repository, "main"))
        for repository in hub.repositories.all()
        if author in (None, repository.id.split("/")[0])
        and (not repository.private or (caller is not None and caller.owns(repository.id)))
    ]


@router.get("/models/{name}")
def old_style_model(name: str, caller: Requester) -> None:
    """Refuse a name without an owner: this Hub has none."""
    raise repository_not_found(anonymous=caller is None)


@router.get("/models/{owner}/{name}")
def model_info(repository: Readable, hub: HubState, blobs: bool = False) -> dict[str, Any]:
    """Return the head of main and its files."""
    return _info(repository, hub.repositories.commit_at(repository, "main"), blobs=blobs)


@router.get("/models/{owner}/{name}/revision/{revision:path}")
def model_info_at(
    repository: Readable, revision: str, hub: HubState, blobs: bool = False
) -> dict[str, Any]:
    """Return the commit of a revision and its files."""
    return _info(repository, hub.repositories.commit_at(repository, revision), blobs=blobs)


@router.get("/models/{owner}/{name}/auth-check")
def may_read(repository: Readable, caller: Requester) -> dict[str, Any]:
    """Answer whether the caller may read the files."""
    require_terms(caller, repository)
    return {}


@router.get("/models/{owner}/{name}/auth-check/write")
def may_write(repository: Readable, caller: Requester) -> dict[str, Any]:
    """Answer whether the caller may commit."""
    require_writer(caller, repository.id)
    return {}


@router.get("/models/{owner}/{name}/tree/{tail:path}")
def tree(
    request: Request,
    repository: Readable,
    hub: HubState,
    *,
    recursive: bool = False,
    expand: bool = False,
    cursor: Annotated[int, Query(ge=0)] = 0,
) -> JSONResponse:
    """List a folder, a page at a time."""
    revision, path = split_revision(request, segment=6)
    entries = folder_entries(
        hub.repositories.commit_at(repository, revision), path, recursive=recursive
    )
    if expand:
        entries = with_last_commit(entries, hub.repositories.history(repository, revision))
    size = _EXPANDED_PAGE if expand else _PAGE
    return _page(request, entries, cursor, size)


@router.post("/models/{owner}/{name}/paths-info/{revision:path}")
def paths_info(
    repository: Readable, revision: str, hub: HubState, body: RawBody
) -> list[dict[str, Any]]:
    """Return the entries of the named paths that exist."""
    commit = hub.repositories.commit_at(repository, revision)
    form = parse_qs(body.decode())
    wanted = set(form.get("paths", []))
    entries = [
        entry for entry in folder_entries(commit, "", recursive=True) if entry["path"] in wanted
    ]
    if form.get("expand") == ["true"]:
        return with_last_commit(entries, hub.repositories.history(repository, revision))
    return entries


@router.get("/models/{owner}/{name}/commits/{revision:path}")
def commits(
    request: Request,
    repository: Readable,
    revision: str,
    hub: HubState,
    cursor: Annotated[int, Query(ge=0)] = 0,
) -> JSONResponse:
    """List a commit and its ancestors, a page at a time."""
    entries = [
        {
            "id": commit.id,
            "title": commit.title,
            "message": commit.message,
            "date": commit.date,
            "authors": [{"user": commit.author}],
        }
        for commit in hub.repositories.history(repository, revision)
    ]
    return _page(request, entries, cursor, _PAGE)


@router.get("/models/{owner}/{name}/refs")
def refs(repository: Readable) -> dict[str, Any]:
    """List branches and tags."""

    def as_refs(kind: str, names: dict[str, str]) -> list[dict[str, str]]:
        return [
            {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit}
            for name, commit in names.items()
        ]

    branches, tags = as_refs("heads", repository.branches), as_refs("tags", repository.tags)
    return {"branches": branches, "tags": tags, "converts": [], "pullRequests": []}


def _info(repository: Repository, commit: Commit, *, blobs: bool = False) -> dict[str, Any]:
    siblings = [_sibling(path, file, blobs=blobs) for path, file in sorted(commit.files.items())]
    return {
        "id": repository.id,
        "modelId": repository.id,
        "author": repository.id.split("/")[0],
        "sha": commit.id,
        "lastModified": commit.date,
        "createdAt": repository.created_at,
        "private": repository.private,
        "gated": repository.gated,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": siblings,
    }


def _sibling(path: str, file: StoredFile, *, blobs: bool) -> dict[str, Any]:
    sibling: dict[str, Any] = {"rfilename": path}
    if blobs:
        sibling |= {"size": file.size_bytes, "blobId": file.blob_id}
        if file.lfs:
            sibling["lfs"] = {
                "sha256": file.sha256,
                "size": file.size_bytes,
                "pointerSize": file.pointer_bytes,
            }
    return sibling


def _page(
    request: Request, entries: Sequence[dict[str, Any]], start: int, size: int
) -> JSONResponse:
    headers = {}
    if start + size < len(entries):
        query = urlencode({**request.query_params, "cursor": start + size})
        headers["Link"] = f'<{request.url.replace(query=query)}>; rel="next"'
    return JSONResponse(list(entries[start : start + size]), headers=headers)
