"""Who may do what on the embedded Hub.

Covers accounts, their tokens, and the rules for private and gated repositories. The rules are
pure functions of an account and a repository; reading the token off a request is the routes' job.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from tasks.core.demo.hub.answers import HubRefusal, repository_not_found
from tasks.core.demo.hub.records import Repository
from tasks.core.errors import UsageError
from tasks.core.files.private import keep_private, write_private

_OWNER = "kawan-usaha"


@dataclass(frozen=True)
class HubAccount:
    """What a token stands for.

    organizations are further namespaces that the user may write to; accepted_terms names the
    gated repositories that opened to the user.
    """

    user: str
    role: Literal["read", "write"] = "write"
    organizations: tuple[str, ...] = ()
    accepted_terms: tuple[str, ...] = ()

    def owns(self, repo_id: str) -> bool:
        """Return whether a repository lies in one of the account's namespaces."""
        return repo_id.partition("/")[0] in (self.user, *self.organizations)


Tokens = Mapping[str, HubAccount]


def load_tokens(root: Path) -> Tokens:
    """Return the tokens of the Hub under root, making its first one when there is none.

    They stand in `tokens.json`, which only its owner can read, and never on a command line.
    Raises UsageError when the file is open to others and belongs to somebody else, and for one
    that does not hold accounts.
    """
    path = root / "tokens.json"
    if path.exists():
        keep_private(path)
    else:
        first = {f"hf_{secrets.token_hex(16)}": {"user": _OWNER, "role": "write"}}
        write_private(path, json.dumps(first, indent=2))
    try:
        return TypeAdapter(dict[str, HubAccount]).validate_json(path.read_bytes())
    except ValidationError as error:
        wrong = error.errors(include_input=False)[0]
        field = ".".join(map(str, wrong["loc"][1:]))  # before that stands the token itself
        raise UsageError(
            "The tokens of the Hub on this machine cannot be read.",
            where=path,
            expected='{"hf_...": {"user": "name", "role": "write"}}',
            found=f"{field}: {wrong['msg']}" if field else wrong["msg"],
            next_step="Correct the file, or remove it: a new token is made then.",
        ) from None


def authenticated(tokens: Tokens, authorization: str | None) -> HubAccount | None:
    """Return who sends an Authorization header, None for nobody.

    Raises HubRefusal for a token that does not exist: the Hub never takes that for anonymous.
    """
    if authorization is None:
        return None
    account = tokens.get(authorization.removeprefix("Bearer ").strip())
    if account is None:
        raise HubRefusal(401, "Invalid credentials in Authorization header")
    return account


def require_reader(account: HubAccount | None, repository: Repository) -> None:
    """Raise HubRefusal when the account may not see that the repository exists."""
    if repository.private and not (account and account.owns(repository.id)):
        raise repository_not_found(anonymous=account is None)


def require_terms(account: HubAccount | None, repository: Repository) -> None:
    """Raise HubRefusal when the repository's files are closed to the account by its terms."""
    if repository.gated is False:
        return
    if account and (account.owns(repository.id) or repository.id in account.accepted_terms):
        return
    raise HubRefusal(
        403 if account else 401,
        f"Access to model {repository.id} is restricted. Accept its terms to ask for access.",
        code="GatedRepo",
    )


def require_writer(account: HubAccount | None, repo_id: str) -> HubAccount:
    """Return the account, or raise HubRefusal when it may not write to the namespace of repo_id."""
    if account is None:
        raise HubRefusal(401, "Invalid username or password.")
    if account.role != "write":
        raise HubRefusal(403, "This token has read rights only; writing needs a write token")
    if not account.owns(repo_id):
        raise HubRefusal(403, f"You do not have the right to write to {repo_id}")
    return account
