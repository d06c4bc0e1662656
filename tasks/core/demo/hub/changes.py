"""Routes of the embedded Hub that write: repositories, settings, commits, branches and tags."""

import base64
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from tasks.core.demo.hub.access import require_writer
from tasks.core.demo.hub.answers import HubRefusal, repository_not_found
from tasks.core.demo.hub.commits import GITATTRIBUTES, goes_to_lfs, parse_commit
from tasks.core.demo.hub.records import Gated, StoredFile
from tasks.core.demo.hub.state import HubState, RawBody, Requester, Writable

router = APIRouter(prefix="/api")


class NewRepository(BaseModel):
    """What `create_repo` sends."""

    name: str
    organization: str | None = None
    type: str | None = None
    visibility: Literal["public", "private"] = "public"


class Settings(BaseModel):
    """What `update_repo_settings` sends."""

    gated: Gated | None = None
    visibility: Literal["public", "private"] | None = None


class PlannedFile(BaseModel):
    """A file that a client is about to commit."""

    path: str
    size: int
    sample: str


class Planned(BaseModel):
    """What `preupload` sends."""

    files: list[PlannedFile]


class NewBranch(BaseModel):
    """What `create_branch` sends."""

    starting_point: str = Field("main", alias="startingPoint")


class NewTag(BaseModel):
    """What `create_tag` sends."""

    tag: str
    message: str = ""


@router.post("/repos/create")
def create(
    wanted: NewRepository, request: Request, hub: HubState, caller: Requester
) -> dict[str, str]:
    """Make a repository whose branch main holds `.gitattributes`, as on the Hub."""
    repo_id = _repo_id(wanted, caller.user if caller else "")
    author = require_writer(caller, repo_id).user
    attributes = StoredFile.regular(GITATTRIBUTES, hub.blobs.add(GITATTRIBUTES))
    url = f"{request.base_url}{repo_id}"
    created = hub.repositories.create(
        repo_id,
        private=wanted.visibility == "private",
        author=author,
        files={".gitattributes": attributes},
    )
    if not created:
        raise HubRefusal(409, "You already created this model repo", url=url)
    return {"url": url, "name": repo_id}


@router.delete("/repos/delete")
def delete(wanted: NewRepository, hub: HubState, caller: Requester) -> dict[str, Any]:
    """Remove a repository."""
    repo_id = _repo_id(wanted, caller.user if caller else "")
    require_writer(caller, repo_id)
    if hub.repositories.find(repo_id) is None:
        raise repository_not_found(anonymous=caller is None)
    hub.repositories.delete(repo_id)
    return {}


@router.post("/validate-yaml")
def validate_card() -> dict[str, list[str]]:
    """Accept every model card: the card is checked before it is written."""
    return {"errors": [], "warnings": []}


@router.put("/models/{owner}/{name}/settings")
def settings(repository: Writable, wanted: Settings, hub: HubState) -> dict[str, Any]:
    """TreeChange visibility or gate."""
    changes: dict[str, object] = {}
    if wanted.gated is not None:
        changes["gated"] = wanted.gated
    if wanted.visibility is not None:
        changes["private"] = wanted.visibility == "private"
    hub.repositories.update(repository.id, **changes)
    return {}


@router.post("/models/{owner}/{name}/preupload/{revision:path}")
def preupload(
    repository: Writable, revision: str, planned: Planned, hub: HubState
) -> dict[str, list[dict[str, Any]]]:
    """Return for each file whether it goes to LFS, and what the revision holds under its name."""
    present = hub.repositories.commit_at(repository, revision).files
    answers = []
    for file in planned.files:
        lfs = goes_to_lfs(file.path, file.size, base64.b64decode(file.sample))
        answer = {
            "path": file.path,
            "uploadMode": "lfs" if lfs else "regular",
            "shouldIgnore": False,
        }
        if file.path in present:
            answer["oid"] = present[file.path].etag
        answers.append(answer)
    return {"files": answers}


@router.post("/models/{owner}/{name}/commit/{branch:path}")
def commit(
    repository: Writable,
    branch: str,
    *,
    body: RawBody,
    hub: HubState,
    caller: Requester,
    request: Request,
) -> dict[str, Any]:
    """Append a commit to a branch."""
    if "create_pr" in request.query_params:
        raise HubRefusal(400, "The embedded Hub has no pull requests")
    wanted = parse_commit(body, hub.blobs)
    done = hub.repositories.append_commit(
        repository.id,
        branch,
        wanted.apply,
        title=wanted.title,
        message=wanted.message,
        author=require_writer(caller, repository.id).user,
        expected_parent=wanted.parent,
    )
    url = f"{request.base_url}{repository.id}/commit/{done.id}"
    return {"success": True, "commitOid": done.id, "commitUrl": url}


@router.post("/models/{owner}/{name}/branch/{branch:path}")
def create_branch(
    repository: Writable, branch: str, wanted: NewBranch, hub: HubState
) -> dict[str, Any]:
    """Name a commit as a branch."""
    hub.repositories.add_ref(repository.id, "branches", branch, wanted.starting_point)
    return {}


@router.delete("/models/{owner}/{name}/branch/{branch:path}")
def delete_branch(repository: Writable, branch: str, hub: HubState) -> dict[str, Any]:
    """Forget a branch."""
    hub.repositories.delete_ref(repository.id, "branches", branch)
    return {}


@router.post("/models/{owner}/{name}/tag/{revision:path}")
def create_tag(
    repository: Writable, revision: str, wanted: NewTag, hub: HubState
) -> dict[str, Any]:
    """Name a commit as a tag."""
    hub.repositories.add_ref(repository.id, "tags", wanted.tag, revision)
    return {}


@router.delete("/models/{owner}/{name}/tag/{tag:path}")
def delete_tag(repository: Writable, tag: str, hub: HubState) -> dict[str, Any]:
    """Forget a tag."""
    hub.repositories.delete_ref(repository.id, "tags", tag)
    return {}


def _repo_id(wanted: NewRepository, user: str) -> str:
    if wanted.type not in (None, "model"):
        raise HubRefusal(400, "The embedded Hub keeps models only")
    return f"{wanted.organization or user}/{wanted.name}"
