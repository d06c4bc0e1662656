"""Checks before a run that its model can be published to the target.

A directory or bucket is written to, and left as it was; a Hub is asked what the token may do. Not
covered is what only the model itself can show: its licence and its size.
"""

from collections.abc import Mapping
from typing import Any

from tasks.core.errors import HubError
from tasks.core.hub.publish.to_hub.access import is_private, require_as_private, writable
from tasks.core.hub.publish.to_hub.repository import HubRepository
from tasks.core.recipe import Publish
from tasks.core.storage.directory import StorageDirectory
from tasks.core.storage.urls import in_time, shown

_DEADLINE_S = 7.0


def require_open(target: Publish, token: str | None = None) -> None:
    """Check that the target can be written to now.

    Raises what `StorageDirectory.open` and its `probe` raise, WrongToken and HubError where the
    token may not write or the repository is not as the recipe wants it, HubUnavailable, and what
    `in_time` raises.
    """
    if target.target is None:
        _require_hub(str(target.repo), target, token)
        return
    url = target.target
    in_time(lambda: StorageDirectory.open(url).probe(), where=shown(url))


def _require_hub(repo: str, target: Publish, token: str | None) -> None:
    repository, who = writable(repo, token, _DEADLINE_S)
    found_private = repository.call(lambda: is_private(repository))
    if found_private is None:
        _require_namespace(repository, who)
    else:
        require_as_private(target, repository, found_private=found_private)


def _require_namespace(repository: HubRepository, who: Mapping[str, Any]) -> None:
    """Raise HubError when the repository would have to be made under somebody else's name."""
    owner = repository.repo.partition("/")[0]
    names = [str(who["name"]), *(str(each["name"]) for each in who.get("orgs", ()))]
    if owner.lower() not in {name.lower() for name in names}:
        raise HubError(
            "There is no such repository, and the token's account cannot make it.",
            where=repository.repo,
            expected=f"a repository of {', '.join(names)}",
            next_step="Correct `publish.repo`, or use the token of its owner.",
        )
