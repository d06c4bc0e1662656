"""The repository to publish to: found or made, writable, and private where that is wanted."""

from collections.abc import Mapping
from typing import Any

import httpx2
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from tasks.core.errors import HubError, UsageError, WrongToken
from tasks.core.hub.client import api
from tasks.core.hub.publish.to_hub.repository import HubRepository
from tasks.core.recipe import Publish


def writable(
    repo: str, token: str | None, deadline_s: float
) -> tuple[HubRepository, Mapping[str, Any]]:
    """Return the repository with its owner's name, and what the Hub says of the token's account.

    Raises WrongToken when the token may write nothing.
    """
    client = api(token)
    if not isinstance(client.token, str):
        raise WrongToken(
            "Publishing needs a token, and there is none.",
            where=client.endpoint,
            next_step=f"Make a token that may write at {client.endpoint}/settings/tokens and "
            "`export HF_TOKEN=...`, or use `hf auth login`.",
        )
    who = HubRepository(client, repo, deadline_s).call(client.whoami)
    if not _may_write(who.get("auth", {}).get("accessToken", {})):
        raise WrongToken(
            "The token may read, but not write.",
            where=client.endpoint,
            expected="a token with the right to write",
            found=f"a read-only token of {who['name']}",
            next_step=f"Make a token that may write at {client.endpoint}/settings/tokens.",
        )
    full_name = repo if "/" in repo else f"{who['name']}/{repo}"
    return HubRepository(client, full_name, deadline_s), who


def _may_write(token: Mapping[str, Any]) -> bool:
    """Return whether a token has the right to write anywhere, by what `whoami` says of it."""
    if token.get("role") != "fineGrained":
        return token.get("role") != "read"
    rights = token.get("fineGrained", {})
    scopes = [{"permissions": rights.get("global", ())}, *rights.get("scoped", ())]
    return any("repo.write" in scope.get("permissions", ()) for scope in scopes)


def opened_repository(target: Publish, token: str | None, deadline_s: float) -> HubRepository:
    """Return the target's repository, which is made when it is missing."""
    if target.repo is None:
        raise UsageError(
            "The recipe publishes to a directory or bucket, not to a Hub.",
            where="publish.target",
            found=target.target,
            next_step="Use publish_to_filesystem for it.",
        )
    repository, _ = writable(target.repo, token, deadline_s)
    found_private = repository.call(lambda: _found_or_made(repository, private=target.private))
    require_as_private(target, repository, found_private=found_private)
    return repository


def require_as_private(target: Publish, repository: HubRepository, *, found_private: bool) -> None:
    """Raise HubError when the repository is public and the recipe wants a private one."""
    if target.private and not found_private:
        raise HubError(
            "The repository is public, and the recipe wants a private one.",
            where=repository.repo,
            next_step="Make it private in its settings, choose another name in `publish.repo`, or "
            "write `publish.private: false` if everyone may have the model.",
        )


def _found_or_made(repository: HubRepository, *, private: bool) -> bool:
    """Return whether the repository is private, after making it when there is none."""
    found = is_private(repository)
    if found is None:
        try:
            repository.api.create_repo(repository.repo, private=private, repo_type="model")
        except HfHubHTTPError as error:
            if error.response.status_code != httpx2.codes.CONFLICT:
                raise
        found = is_private(repository)
    if found is None:
        raise HubError(
            "The name belongs to another repository type, or this token cannot see it.",
            where=repository.repo,
            expected="a free name, or a model repository of this account",
            next_step="Choose another name in `publish.repo`, or use the token of its owner.",
        )
    return found


def is_private(repository: HubRepository) -> bool | None:
    """Return whether the repository is private, None when this token sees no such repository."""
    try:
        return bool(repository.api.model_info(repository.repo).private)
    except RepositoryNotFoundError:
        return None
