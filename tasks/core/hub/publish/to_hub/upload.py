"""Upload the files of a build to a branch on a Hub, each one once.

Only files that the Hub does not have are sent, a few at once, each in a request of its own: a kill
loses at most those that were being sent. One commit at the end makes the branch hold the build and
nothing else; `main` is not touched.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete

from tasks.core.hub.private_api import UploadInfo, post_lfs_batch_info
from tasks.core.hub.publish.files import Wanted, build_names
from tasks.core.hub.publish.names import upload_title
from tasks.core.hub.publish.to_hub.repository import HubRepository, Tree
from tasks.core.hub.publish.to_hub.sending import additions
from tasks.core.progress import OnProgress, Tally
from tasks.core.system.threads import run_all

FILES_AT_ONCE = 4
"""While one is hashed another is sent, and one connection alone may not fill the line."""


@dataclass(frozen=True)
class Upload:
    """What an upload sent, and the commit that holds the complete build."""

    commit: str
    sent: tuple[str, ...]


def upload(
    repository: HubRepository, branch: str, wanted: Mapping[str, Wanted], *, on_progress: OnProgress
) -> Upload:
    """Make the branch hold exactly the wanted files, and return what was sent.

    Raises FileChanged when a file is not what the manifest says, or changes while it is sent. After
    an error no further file begins.
    """
    tree = repository.call(lambda: repository.tree(branch))
    missing = [file for file in wanted.values() if not _is_there(file, tree)]
    on_hub = repository.call(lambda: _contents_on_hub(repository, missing))
    total = sum(file.digest.size_bytes for file in wanted.values())
    to_send = [file for file in missing if file.digest.sha256 not in on_hub]
    done = total - sum(file.digest.size_bytes for file in to_send)
    tally = Tally(total, on_progress, done)
    run_all(
        [partial(_send, repository, branch, file, tally) for file in to_send],
        threads=FILES_AT_ONCE,
        name="upload",
        stop=lambda: None,  # an upload to an embedded Hub ends at its next read
    )
    commit = repository.call(lambda: _commit(repository, branch, wanted))
    return Upload(commit, tuple(file.name for file in to_send))


def _is_there(file: Wanted, tree: Tree) -> bool:
    return file.name in tree and file.is_same_as(tree[file.name])


def _contents_on_hub(repository: HubRepository, files: Iterable[Wanted]) -> set[str]:
    """Return the SHA-256 of the files whose content the Hub's LFS store has already.

    Source: git-lfs docs/api/batch.md; an object without actions needs no upload.
    """
    infos = [
        UploadInfo(file.digest.size_bytes, b"", bytes.fromhex(file.digest.sha256))
        for file in files
        if file.digest.size_bytes
    ]
    if not infos:
        return set()
    answers, _, _ = post_lfs_batch_info(
        infos,
        token=repository.api.token if isinstance(repository.api.token, str) else None,
        repo_type="model",
        repo_id=repository.repo,
        endpoint=repository.api.endpoint,
    )
    return {answer["oid"] for answer in answers if answer.get("actions") is None}


def _send(repository: HubRepository, branch: str, file: Wanted, tally: Tally) -> None:
    """Send one file's bytes. Small files that the Hub keeps in git itself wait for the commit."""
    if isinstance(file.source, Path):
        _send_from(file.source, repository, branch, file)
    tally.add(file.digest.size_bytes)


def _send_from(path: Path, repository: HubRepository, branch: str, file: Wanted) -> None:
    before = _stamp(path)
    file.require_unchanged()

    def step() -> None:
        try:
            with _additions(repository, [file]) as added:
                repository.api.preupload_lfs_files(
                    repository.repo, added, revision=branch, free_memory=False
                )
        finally:
            # Takes precedence: a file that shrinks looks like a dropped connection, too.
            if _stamp(path) != before:
                raise file.changed("another size or time stamp than when the upload began")

    repository.call(step)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


@contextmanager
def _additions(
    repository: HubRepository, files: Sequence[Wanted]
) -> Iterator[list[CommitOperationAdd]]:
    """Yield the additions of these files, whose SHA-256 is known and not computed again."""
    sources = {file.name: file.source for file in files}
    with additions(repository.api.endpoint, sources) as added:
        for addition, file in zip(added, files, strict=True):
            addition.upload_info.sha256 = bytes.fromhex(file.digest.sha256)
        yield added


def _commit(repository: HubRepository, branch: str, wanted: Mapping[str, Wanted]) -> str:
    """Commit the difference to the wanted files, if there is one, and return the branch's head."""
    head = repository.branches()[branch]
    tree = repository.tree(head)
    new = [file for file in wanted.values() if not _is_there(file, tree)]
    gone = [
        CommitOperationDelete(name, is_folder=False)
        for name in sorted(build_names(tree) - wanted.keys())
    ]
    if not new and not gone:
        return head
    with _additions(repository, new) as added:
        return repository.api.create_commit(
            repository.repo,
            [*added, *gone],
            commit_message=upload_title(branch),
            revision=branch,
            parent_commit=head,
            num_threads=1,
        ).oid
