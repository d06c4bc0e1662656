"""The repositories of the embedded Hub on disk: settings, refs and commits as JSON files.

The invariant: a commit is written before the ref that names it, and each file is replaced
atomically, so a reader (or the next start after a kill) sees the state before or after a change.
One lock orders all writers of a server; `server.py` sees to it that a root has only one server.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Literal

from tasks.core.demo.hub.answers import HubRefusal, revision_not_found
from tasks.core.demo.hub.records import Commit, Repository, StoredFile
from tasks.core.files.durable import make_directory, write_atomically
from tasks.core.files.listing import matching
from tasks.core.files.private import private_directory

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")
_COMMIT_ID = re.compile(r"^[0-9a-f]{40}$")

TreeChange = Callable[[dict[str, StoredFile]], dict[str, StoredFile]]
"""Makes the next tree from the present one."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class RepositoryStore:
    """All repositories under one directory. Safe to use from several threads."""

    def __init__(self, root: Path) -> None:
        self._root = root / "repositories"
        private_directory(self._root)
        self._writing = Lock()

    def _directory(self, repo_id: str) -> Path:
        owner, _, name = repo_id.partition("/")
        if not (_NAME.match(owner) and _NAME.match(name)):
            raise HubRefusal(400, f"Invalid repo name: {repo_id}")
        return self._root / owner / name

    def find(self, repo_id: str) -> Repository | None:
        """Return a repository, or None."""
        path = self._directory(repo_id) / "repository.json"
        return Repository.model_validate_json(path.read_bytes()) if path.exists() else None

    def all(self) -> Iterator[Repository]:
        """Yield every repository, by name."""
        for path in matching(self._root, "*/*/repository.json"):
            yield Repository.model_validate_json(path.read_bytes())

    def create(
        self, repo_id: str, *, private: bool, author: str, files: Mapping[str, StoredFile]
    ) -> bool:
        """Make a repository whose branch main holds files; return False when there is one."""
        with self._writing:
            if self.find(repo_id) is not None:
                return False
            make_directory(self._directory(repo_id) / "commits")
            first = Commit.make(
                None, title="initial commit", message="", author=author, date=_now(), files=files
            )
            self._write_commit(repo_id, first)
            branches = {"main": first.id}
            self._save(
                Repository(id=repo_id, private=private, created_at=first.date, branches=branches)
            )
            return True

    def delete(self, repo_id: str) -> None:
        """Remove a repository with its commits. Contents stay: others may share them."""
        with self._writing:
            directory = self._directory(repo_id)
            (directory / "repository.json").unlink(missing_ok=True)
            shutil.rmtree(directory, ignore_errors=True)

    def update(self, repo_id: str, **settings: object) -> None:
        """TreeChange settings of a repository."""
        with self._writing:
            self._save(self._get(repo_id).model_copy(update=settings))

    def commit_at(self, repository: Repository, revision: str) -> Commit:
        """Return the commit that a branch, a tag or a commit id names. Raises HubRefusal."""
        commit_id = repository.branches.get(revision) or repository.tags.get(revision) or revision
        path = self._directory(repository.id) / "commits" / f"{commit_id}.json"
        if not _COMMIT_ID.match(commit_id) or not path.exists():
            raise revision_not_found(revision)
        return Commit.model_validate_json(path.read_bytes())

    def history(self, repository: Repository, revision: str) -> Iterator[Commit]:
        """Yield a commit and its ancestors, the newest first."""
        commit = self.commit_at(repository, revision)
        yield commit
        while commit.parent is not None:
            commit = self.commit_at(repository, commit.parent)
            yield commit

    def append_commit(
        self,
        repo_id: str,
        branch: str,
        change: TreeChange,
        *,
        title: str,
        message: str,
        author: str,
        expected_parent: str | None,
    ) -> Commit:
        """Return the new head of a branch, whose tree change makes from the head's.

        Raises HubRefusal when there is no such branch, or it moved on from expected_parent.
        """
        with self._writing:
            repository = self._get(repo_id)
            if branch not in repository.branches:
                raise revision_not_found(branch)
            head = self.commit_at(repository, branch)
            if expected_parent is not None and expected_parent != head.id:
                raise HubRefusal(412, "A commit has happened since. Please refresh and try again.")
            files = change(dict(head.files))
            commit = Commit.make(
                head.id, title=title, message=message, author=author, date=_now(), files=files
            )
            self._write_commit(repo_id, commit)
            branches = {**repository.branches, branch: commit.id}
            self._save(repository.model_copy(update={"branches": branches}))
            return commit

    def add_ref(
        self, repo_id: str, kind: Literal["branches", "tags"], name: str, revision: str
    ) -> None:
        """Name the commit at revision. Raises HubRefusal when the name is taken."""
        with self._writing:
            repository = self._get(repo_id)
            refs: dict[str, str] = getattr(repository, kind)
            if name in refs:
                raise HubRefusal(409, f"Reference {name} exists already")
            commit = self.commit_at(repository, revision)
            self._save(repository.model_copy(update={kind: {**refs, name: commit.id}}))

    def delete_ref(self, repo_id: str, kind: Literal["branches", "tags"], name: str) -> None:
        """Forget a branch or tag. Raises HubRefusal when there is none, and for branch main."""
        with self._writing:
            repository = self._get(repo_id)
            refs: dict[str, str] = getattr(repository, kind)
            if name not in refs:
                raise revision_not_found(name)
            if kind == "branches" and name == "main":
                raise HubRefusal(400, "Branch main cannot be deleted")
            kept = {other: commit for other, commit in refs.items() if other != name}
            self._save(repository.model_copy(update={kind: kept}))

    def _get(self, repo_id: str) -> Repository:
        repository = self.find(repo_id)
        if repository is None:
            raise HubRefusal(404, "Repository not found", code="RepoNotFound")
        return repository

    def _write_commit(self, repo_id: str, commit: Commit) -> None:
        path = self._directory(repo_id) / "commits" / f"{commit.id}.json"
        write_atomically(path, commit.model_dump_json())

    def _save(self, repository: Repository) -> None:
        path = self._directory(repository.id) / "repository.json"
        write_atomically(path, repository.model_dump_json(indent=2))
