"""One repository on a Hub, as the publish protocol uses it: refs, trees, and one way to main.

Invariants: `main` changes by one commit that makes it show a whole build, taken from that build's
revision on the Hub, so a reader of `main` sees a complete build at any time. Beside the build, only
files of our own earlier builds are removed, recognized by name and content.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from huggingface_hub import CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import RemoteEntryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile

from tasks.core.errors import UploadCorrupt
from tasks.core.files.temporary import scratch_directory
from tasks.core.hub.publish.allow_list import require_harmless
from tasks.core.hub.publish.files import build_names
from tasks.core.hub.publish.names import titles_of_branch, titles_of_tag
from tasks.core.hub.publish.to_hub.errors import insist

Tree = dict[str, RepoFile]
T = TypeVar("T")


@dataclass(frozen=True)
class Main:
    """What main shows: a build, and beside it the files of other people."""

    commit: str
    kept: tuple[str, ...]


@dataclass(frozen=True)
class HubRepository:
    """A repository, and how long each step is retried."""

    api: HfApi
    repo: str
    deadline_s: float

    def url_of(self, revision: str) -> str:
        """Return the web address of a revision."""
        return f"{self.api.endpoint}/{self.repo}/tree/{revision}"

    def call(self, step: Callable[[], T]) -> T:
        """Return what step returns; see `insist` for what is retried."""
        return insist(step, repo=self.repo, deadline_s=self.deadline_s)

    def tree(self, revision: str) -> Tree:
        """Return every file of a revision, by name. Asks once."""
        entries = self.api.list_repo_tree(self.repo, revision=revision, recursive=True)
        return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}

    def content(self, revision: str, name: str) -> bytes | None:
        """Return the bytes of a small file of a revision, None where there is none."""

        def step() -> bytes | None:
            with scratch_directory("hub") as cache:
                try:
                    path = self.api.hf_hub_download(
                        self.repo, name, revision=revision, cache_dir=cache
                    )
                except (RemoteEntryNotFoundError, RevisionNotFoundError):
                    return None
                return Path(path).read_bytes()

        return self.call(step)

    def branches(self) -> dict[str, str]:
        """Return the commits of branches, by name. Asks once."""
        refs = self.api.list_repo_refs(self.repo)
        return {ref.name: ref.target_commit for ref in refs.branches}

    def tags(self) -> dict[str, str]:
        """Return the commits of tags, by name. Asks once."""
        return {ref.name: ref.target_commit for ref in self.api.list_repo_refs(self.repo).tags}

    def bring_to_main(self, revision: str, message: str) -> Main:
        """Make main show the build at a revision, in one commit, and return what it shows.

        Files of earlier builds are deleted, everybody else's stay. Nothing is committed when main
        shows the build already. Weights are copied by reference; the few small files that the Hub
        keeps in git itself are sent again, from the Hub's own copy. Raises HubError when a file
        that stays would be loaded with the build, or when somebody else changes main meanwhile,
        and UploadCorrupt when main does not show the build afterwards.
        """
        main = self.call(lambda: self._commit_to_main(revision, message))
        shown, meant = (self.call(partial(self.tree, name)) for name in (main.commit, revision))
        if _ids(shown) != {**_ids(meant), **{name: _id(shown.get(name)) for name in main.kept}}:
            raise UploadCorrupt(
                "main does not show the files that were committed to it.",
                where=f"{self.repo}@{main.commit}",
                expected=f"the files of {revision}",
                next_step=f"`kawan-usaha publish {self.repo} --rollback TAG` brings an earlier "
                "build back.",
            )
        return main

    def require_free(self, published: Collection[str]) -> None:
        """Raise HubError when a file that stays on main would be loaded with the published ones."""
        self._others(self.tree("main"), published)

    def delete_branch(self, branch: str) -> None:
        """Delete a branch; it may be gone already."""

        def step() -> None:
            if branch in self.branches():
                self.api.delete_branch(self.repo, branch=branch)

        self.call(step)

    def _commit_to_main(self, revision: str, message: str) -> Main:
        head = self.branches()["main"]
        present, source = self.tree(head), self.tree(revision)
        kept = self._others(present, source.keys())
        same = {name for name, file in source.items() if _id(present.get(name)) == _id(file)}
        operations: list[CommitOperationCopy | CommitOperationDelete] = [
            *(
                CommitOperationCopy(name, name, src_revision=revision)
                for name in sorted(source.keys() - same)
            ),
            *(
                CommitOperationDelete(name, is_folder=False)
                for name in sorted(build_names(present) - source.keys() - set(kept))
            ),
        ]
        if not operations:
            return Main(head, kept)
        commit = self.api.create_commit(
            self.repo, operations, commit_message=message, parent_commit=head
        )
        return Main(commit.oid, kept)

    def _others(self, present: Tree, published: Collection[str]) -> tuple[str, ...]:
        """Return the files present that are not published now and come from no build of ours."""
        unknown = build_names(present) - set(published)
        builds = self._builds()
        while unknown and (commit := next(builds, None)):
            tree = self.tree(commit)
            unknown -= {name for name in unknown if _id(tree.get(name)) == _id(present[name])}
        require_harmless(
            unknown,
            published,
            where=f"{self.repo}, main",
            remedy=f"`hf repos delete-files {self.repo} FILE ...`",
        )
        return tuple(sorted(unknown))

    def _builds(self) -> Iterator[str]:
        """Yield the commits that hold an earlier build: first the finished ones, then the others.

        Somebody else's tag may begin like ours, but its commit does not have the title of ours.
        """
        for refs, titles_of in ((self.tags(), titles_of_tag), (self.branches(), titles_of_branch)):
            for ref, commit in refs.items():
                titles = titles_of(ref)
                if titles and self._title(commit) in titles:
                    yield commit

    def _title(self, commit: str) -> str:
        return self.api.list_repo_commits(self.repo, revision=commit)[0].title


def _ids(tree: Tree) -> dict[str, str | None]:
    return {name: _id(tree[name]) for name in build_names(tree)}


def _id(file: RepoFile | None) -> str | None:
    """Return git's id of the content, which for a large file is that of its pointer."""
    return file.blob_id if file else None
