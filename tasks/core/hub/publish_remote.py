"""One repository of a Hub, as the publish protocol sees it: refs, trees, and one way to main.

Invariant: `main` changes by one commit that makes its files those of another revision, taken from
that revision on the Hub, so a reader of `main` sees a whole build at any time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from huggingface_hub import CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.hf_api import RepoFile

from tasks.core.errors import UploadCorrupt
from tasks.core.hub.publish_errors import insist
from tasks.core.hub.publish_files import build_names

Tree = dict[str, RepoFile]
T = TypeVar("T")


@dataclass(frozen=True)
class Remote:
    """A repository and how long to insist on each step."""

    api: HfApi
    repo: str
    deadline_s: float

    def call(self, step: Callable[[], T]) -> T:
        """Return what step returns; see `insist` for what is tried again."""
        return insist(step, repo=self.repo, deadline_s=self.deadline_s)

    def tree(self, revision: str) -> Tree:
        """Return every file of a revision, by name. Asks once."""
        entries = self.api.list_repo_tree(self.repo, revision=revision, recursive=True)
        return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}

    def branches(self) -> dict[str, str]:
        """Return the commits of branches, by name. Asks once."""
        refs = self.api.list_repo_refs(self.repo)
        return {ref.name: ref.target_commit for ref in refs.branches}

    def tags(self) -> dict[str, str]:
        """Return the commits of tags, by name. Asks once."""
        return {ref.name: ref.target_commit for ref in self.api.list_repo_refs(self.repo).tags}

    def bring_to_main(self, revision: str, message: str) -> str:
        """Make main's files those of a commit, in one commit, and return main's commit.

        Nothing is committed when they are equal already. Weights are referred to, not sent; the
        few small files that the Hub keeps in git itself travel again, from the Hub's own copy.
        Raises HubError when somebody else changes main meanwhile, UploadCorrupt when main does not
        show the commit's files afterwards.
        """
        commit = self.call(lambda: self._commit_to_main(revision, message))
        shown, meant = (self.call(partial(self.tree, name)) for name in (commit, revision))
        if _ids(shown) != _ids(meant):
            raise UploadCorrupt(
                "main does not show the files that were brought to it.",
                where=f"{self.repo}@{commit}",
                expected=f"the files of {revision}",
                next_step=f"`kawan-usaha publish {self.repo} --rollback TAG` brings an earlier "
                "build back.",
            )
        return commit

    def delete_branch(self, branch: str) -> None:
        """Forget a branch; it may be gone already."""

        def step() -> None:
            if branch in self.branches():
                self.api.delete_branch(self.repo, branch=branch)

        self.call(step)

    def _commit_to_main(self, revision: str, message: str) -> str:
        head = self.branches()["main"]
        present, source = self.tree(head), self.tree(revision)
        same = {name for name, file in source.items() if _id(present.get(name)) == _id(file)}
        operations: list[CommitOperationCopy | CommitOperationDelete] = [
            *(
                CommitOperationCopy(name, name, src_revision=revision)
                for name in sorted(source.keys() - same)
            ),
            *(
                CommitOperationDelete(name, is_folder=False)
                for name in sorted(build_names(present) - source.keys())
            ),
        ]
        if not operations:
            return head
        return self.api.create_commit(
            self.repo, operations, commit_message=message, parent_commit=head
        ).oid


def _ids(tree: Tree) -> dict[str, str | None]:
    return {name: _id(tree[name]) for name in build_names(tree)}


def _id(file: RepoFile | None) -> str | None:
    """Return what tells two contents apart: git's id, which for a large file is its pointer's."""
    return file.blob_id if file else None
