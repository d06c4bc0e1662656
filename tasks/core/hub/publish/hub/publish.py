"""Publish a build to a Hub: all of it or nothing, and back again.

The order is the guarantee: a branch of the build's own name receives the files, what arrived there
is verified and loaded, then one commit makes `main` show the same files in place of an earlier
build's, then the build gets its tag, then the branch goes. A kill anywhere leaves `main` at a whole
build, and the next run goes on. A tag holds the build alone; on `main` stands beside it whatever
else the repository's people put there.
Does not decide whether a model is good enough: that is the gate's question.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from tasks.core.errors import HubError, RevisionNotFound, UsageError, WrongToken
from tasks.core.files.digests import FileDigest
from tasks.core.hub.card.rules import require_valid_card
from tasks.core.hub.client import api
from tasks.core.hub.publish.files import (
    Wanted,
    build_names,
    left_out,
    require_loads,
    wanted_files,
)
from tasks.core.hub.publish.hub.repository import Remote
from tasks.core.hub.publish.hub.upload import Upload, upload
from tasks.core.hub.publish.hub.verify import differences, verify
from tasks.core.hub.publish.license import require_card_terms
from tasks.core.hub.publish.names import (
    branch_of,
    build_of,
    publish_title,
    rollback_title,
    tag_of,
)
from tasks.core.hub.publish.receipt import Receipt
from tasks.core.hub.publish.signature import SIGNATURE, proven, with_signature
from tasks.core.progress import OnProgress, silent
from tasks.core.recipe import Publish
from tasks.core.signing import SigningKey

DEADLINE_S = 900.0
"""How long one step is tried again while the Hub is out of reach."""


def publish(
    model: Path,
    files: Mapping[str, FileDigest],
    card: str,
    target: Publish,
    build: str,
    *,
    key: SigningKey | None = None,
    token: str | None = None,
    deadline_s: float = DEADLINE_S,
    on_progress: OnProgress = silent,
) -> Receipt:
    """Publish the files of a model directory with their card, and return the receipt.

    files are those of the artifact's manifest; build names exactly these files and this card, and
    with a key, whose signature over all of them is published, this key.
    Only what `publish.selection` lists is sent. on_progress counts bytes. Published twice, nothing
    is sent. Raises RecipeError for a card or licence that forbids it, SecretFound, FileChanged,
    UploadCorrupt, and the errors of the Hub; `main` is as it was after each of them.
    """
    require_valid_card(card)
    require_card_terms(card, target)
    wanted = wanted_files(model, files, card)
    require_loads(model, wanted)
    branch, tag = branch_of(build), tag_of(build)
    remote = _open(target, token, deadline_s)
    tagged = remote.call(remote.tags).get(tag)
    there = None if key is None else remote.content(tagged or branch, SIGNATURE)
    wanted = with_signature(wanted, build, key, there)
    if tagged is not None:
        _require_same_build(remote, tag, tagged, wanted)
        arrived = Upload(tagged, sent=())
    else:
        remote.call(lambda: remote.require_free(wanted.keys()))
        arrived = _arrive(remote, branch, wanted, on_progress)
    where = f"{remote.repo}@{arrived.commit}"
    there = None if key is None else remote.content(arrived.commit, SIGNATURE)
    signature = proven(there, wanted, key, where=where)
    main = remote.bring_to_main(arrived.commit, publish_title(build))
    if tagged is None:
        remote.call(lambda: _tag(remote, tag, arrived.commit))
    remote.delete_branch(branch)
    total = sum(file.digest.size_bytes for file in wanted.values())
    sent_bytes = sum(wanted[name].digest.size_bytes for name in arrived.sent)
    on_progress(total, total)
    return Receipt(
        place=remote.repo,
        commit=main.commit,
        tag=tag,
        url=f"{remote.api.endpoint}/{remote.repo}/tree/{tag}",
        sent_bytes=sent_bytes,
        skipped_bytes=total - sent_bytes,
        files=tuple(sorted(wanted)),
        sent=arrived.sent,
        left_out=left_out(files, wanted),
        kept=main.kept,
        signature=signature,
    )


def rollback(
    repo: str, tag: str, *, token: str | None = None, deadline_s: float = DEADLINE_S
) -> Receipt:
    """Make main show an earlier build again, by its tag, without sending weights.

    Files that came from somebody else stay, as in `publish`.

    Raises RevisionNotFound when the repository has no such tag, with those that it has.
    """
    remote, _ = writable(repo, token, deadline_s)
    name = tag_of(build_of(tag))
    tags = remote.call(remote.tags)
    if name not in tags:
        raise RevisionNotFound(
            "There is no such build to go back to.",
            where=remote.repo,
            expected=", ".join(sorted(tags)) or "no build was published there",
            found=name,
            next_step="Name one of the tags above.",
        )
    main = remote.bring_to_main(tags[name], rollback_title(build_of(tag)))
    tree = remote.call(lambda: remote.tree(tags[name]))
    return Receipt(
        place=remote.repo,
        commit=main.commit,
        tag=name,
        url=f"{remote.api.endpoint}/{remote.repo}/tree/{name}",
        sent_bytes=0,
        skipped_bytes=sum(tree[file].size for file in build_names(tree)),
        files=tuple(sorted(build_names(tree))),
        kept=main.kept,
    )


def writable(repo: str, token: str | None, deadline_s: float) -> tuple[Remote, Mapping[str, Any]]:
    """Return the repository with its owner's name, and what the Hub says of the token's account.

    Raises WrongToken when nothing can be written with the token.
    """
    client = api(token)
    if not isinstance(client.token, str):
        raise WrongToken(
            "Publishing needs a token, and there is none.",
            where=client.endpoint,
            next_step=f"Make a token that may write at {client.endpoint}/settings/tokens and "
            "`export HF_TOKEN=...`, or use `hf auth login`.",
        )
    who = Remote(client, repo, deadline_s).call(client.whoami)
    if not _may_write(who.get("auth", {}).get("accessToken", {})):
        raise WrongToken(
            "The token may read, and not write.",
            where=client.endpoint,
            expected="a token with the right to write",
            found=f"a token of {who['name']} that only reads",
            next_step=f"Make a token that may write at {client.endpoint}/settings/tokens.",
        )
    return Remote(client, repo if "/" in repo else f"{who['name']}/{repo}", deadline_s), who


def _may_write(token: Mapping[str, Any]) -> bool:
    """Return whether a token has the right to write anywhere, by what `whoami` says of it."""
    if token.get("role") != "fineGrained":
        return token.get("role") != "read"
    rights = token.get("fineGrained", {})
    scopes = [{"permissions": rights.get("global", ())}, *rights.get("scoped", ())]
    return any("repo.write" in scope.get("permissions", ()) for scope in scopes)


def _open(target: Publish, token: str | None, deadline_s: float) -> Remote:
    """Return the target's repository, made when it is missing."""
    if target.repo is None:
        raise UsageError(
            "The recipe publishes to a directory or bucket, not to a Hub.",
            where="publish.target",
            found=target.target,
            next_step="Use publish_to_filesystem for it.",
        )
    remote, _ = writable(target.repo, token, deadline_s)
    found_private = remote.call(lambda: _make(remote, private=target.private))
    require_as_private(target, remote, found_private=found_private)
    return remote


def require_as_private(target: Publish, remote: Remote, *, found_private: bool) -> None:
    """Raise HubError when the repository is public and the recipe wants a private one."""
    if target.private and not found_private:
        raise HubError(
            "The repository is public, and the recipe wants a private one.",
            where=remote.repo,
            next_step="Make it private in its settings, choose another name in `publish.repo`, or "
            "write `publish.private: false` if everyone may have the model.",
        )


def _make(remote: Remote, *, private: bool) -> bool:
    """Return whether the repository is private, after making it when there is none."""
    found = is_private(remote)
    if found is None:
        try:
            remote.api.create_repo(remote.repo, private=private, repo_type="model")
        except HfHubHTTPError as error:
            if error.response.status_code != httpx2.codes.CONFLICT:
                raise
        found = is_private(remote)
    if found is None:
        raise HubError(
            "The name belongs to another repository type, or this token cannot see it.",
            where=remote.repo,
            expected="a free name, or a model repository of this account",
            next_step="Choose another name in `publish.repo`, or use the token of its owner.",
        )
    return found


def is_private(remote: Remote) -> bool | None:
    """Return None when there is no such repository for this token."""
    try:
        return bool(remote.api.model_info(remote.repo).private)
    except RepositoryNotFoundError:
        return None


def _require_same_build(
    remote: Remote, tag: str, commit: str, wanted: Mapping[str, Wanted]
) -> None:
    found = differences(remote.call(lambda: remote.tree(commit)), wanted)
    if found:
        raise HubError(
            "Another build was published under this name.",
            where=f"{remote.repo}@{tag}",
            found="; ".join(found),
            next_step="Give this build a name of its own; a published tag never moves.",
        )


def _arrive(
    remote: Remote, branch: str, wanted: Mapping[str, Wanted], on_progress: OnProgress
) -> Upload:
    """Bring the files to the branch, and verify them there."""
    remote.call(lambda: remote.api.create_branch(remote.repo, branch=branch, exist_ok=True))
    done = upload(remote, branch, wanted, on_progress=on_progress)
    verify(remote, done.commit, wanted)
    return done


def _tag(remote: Remote, tag: str, commit: str) -> None:
    if tag not in remote.tags():
        remote.api.create_tag(remote.repo, tag=tag, revision=commit)
