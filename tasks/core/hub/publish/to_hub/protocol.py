"""Publish a build to a Hub: all of it or nothing; and roll back to an earlier build.

The order is the guarantee: a branch with the build's name receives the files, what arrived there
is verified and loaded, then one commit makes `main` show the same files in place of an earlier
build's, then the build gets its tag, then the branch is deleted. A kill at any point leaves `main`
at a complete build, and the next run resumes. A tag holds the build alone; on `main`, whatever else
people have put into the repository stands beside it.
Does not decide whether a model is good enough: the gate does.
"""

from collections.abc import Mapping

from tasks.core.errors import HubError, RevisionNotFound
from tasks.core.hub.publish.build_signature import Signature, proven
from tasks.core.hub.publish.files import Wanted, build_names, unpublished
from tasks.core.hub.publish.names import (
    branch_of,
    build_of,
    publish_title,
    rollback_title,
    tag_of,
)
from tasks.core.hub.publish.publication import Publication
from tasks.core.hub.publish.receipt import Receipt
from tasks.core.hub.publish.to_hub.access import opened_repository, writable
from tasks.core.hub.publish.to_hub.repository import HubRepository
from tasks.core.hub.publish.to_hub.upload import Upload, upload
from tasks.core.hub.publish.to_hub.verify import differences, verify_upload
from tasks.core.progress import OnProgress, silent
from tasks.core.recipe import Publish
from tasks.core.signing import SIGNATURE

DEADLINE_S = 900.0
"""How long one step is retried while the Hub cannot be reached."""


def publish_to_hub(
    publication: Publication,
    target: Publish,
    *,
    token: str | None = None,
    deadline_s: float = DEADLINE_S,
    on_progress: OnProgress = silent,
) -> Receipt:
    """Publish a build to the repository that the target names, and return the receipt.

    Only the files on the allow list (`allow_list.py`) are sent. on_progress counts bytes. A second
    publish of the same build sends nothing. Raises RecipeError for a card or licence that forbids
    it, SecretFound, FileChanged, UploadCorrupt, and the errors of the Hub; `main` is as it was
    after each of them.
    """
    wanted = publication.wanted(target)
    branch, tag = branch_of(publication.build), tag_of(publication.build)
    repository = opened_repository(target, token, deadline_s)
    tagged = repository.call(repository.tags).get(tag)
    present = _signature_at(repository, tagged or branch, publication)
    wanted = publication.signed(wanted, present)
    if tagged is None:
        arrived = _arrive(repository, branch, wanted, on_progress)
    else:
        _require_same_build(repository, tag, tagged, wanted)
        arrived = Upload(tagged, sent=())
    signature = _proven(repository, arrived.commit, publication, wanted)
    main = repository.bring_to_main(arrived.commit, publish_title(publication.build))
    if tagged is None:
        repository.call(lambda: _tag(repository, tag, arrived.commit))
    repository.delete_branch(branch)
    receipt = Receipt.of(
        wanted,
        arrived.sent,
        place=repository.repo,
        commit=main.commit,
        tag=tag,
        url=repository.url_of(tag),
        left_out=unpublished(publication.files, wanted),
        kept=main.kept,
        signature=signature,
    )
    on_progress(receipt.size_bytes, receipt.size_bytes)
    return receipt


def rollback_on_hub(
    repo: str, tag: str, *, token: str | None = None, deadline_s: float = DEADLINE_S
) -> Receipt:
    """Make main show an earlier build again, by its tag, without sending weights.

    Files of other people stay, as in `publish_to_hub`. Raises RevisionNotFound when the repository
    has no such tag, with those that it has.
    """
    repository, _ = writable(repo, token, deadline_s)
    name = tag_of(build_of(tag))
    tags = repository.call(repository.tags)
    if name not in tags:
        raise RevisionNotFound(
            "There is no such build to go back to.",
            where=repository.repo,
            expected=", ".join(sorted(tags)) or "no build was published there",
            found=name,
            next_step="Name one of the tags above.",
        )
    main = repository.bring_to_main(tags[name], rollback_title(build_of(tag)))
    tree = repository.call(lambda: repository.tree(tags[name]))
    return Receipt(
        place=repository.repo,
        commit=main.commit,
        tag=name,
        url=repository.url_of(name),
        sent_bytes=0,
        skipped_bytes=sum(tree[file].size for file in build_names(tree)),
        files=tuple(sorted(build_names(tree))),
        kept=main.kept,
    )


def _arrive(
    repository: HubRepository, branch: str, wanted: Mapping[str, Wanted], on_progress: OnProgress
) -> Upload:
    """Bring the files to the branch, and verify them there."""
    repository.call(lambda: repository.require_free(wanted.keys()))
    repository.call(
        lambda: repository.api.create_branch(repository.repo, branch=branch, exist_ok=True)
    )
    done = upload(repository, branch, wanted, on_progress=on_progress)
    verify_upload(repository, done.commit, wanted)
    return done


def _require_same_build(
    repository: HubRepository, tag: str, commit: str, wanted: Mapping[str, Wanted]
) -> None:
    found = differences(repository.call(lambda: repository.tree(commit)), wanted)
    if found:
        raise HubError(
            "Another build was published under this name.",
            where=f"{repository.repo}@{tag}",
            found="; ".join(found),
            next_step="Give this build a name of its own; a published tag never moves.",
        )


def _signature_at(
    repository: HubRepository, revision: str, publication: Publication
) -> bytes | None:
    """Return the signature at a revision; None where there is none, or none is wanted."""
    return None if publication.key is None else repository.content(revision, SIGNATURE)


def _proven(
    repository: HubRepository,
    commit: str,
    publication: Publication,
    wanted: Mapping[str, Wanted],
) -> Signature | None:
    arrived = _signature_at(repository, commit, publication)
    return proven(arrived, wanted, publication.key, where=f"{repository.repo}@{commit}")


def _tag(repository: HubRepository, tag: str, commit: str) -> None:
    if tag not in repository.tags():
        repository.api.create_tag(repository.repo, tag=tag, revision=commit)
