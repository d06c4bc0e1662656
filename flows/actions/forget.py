"""Delete what a deployment has kept of a person, and what was built from it."""

from dataclasses import dataclass
from pathlib import Path

from flows.command_line.output import delete_by_hand
from tasks.core.collected.keeper import CollectionLimits, Keeper
from tasks.core.collected.remote_copies import copies_at
from tasks.core.collected.stale_artifacts import remove_stale_artifacts
from tasks.core.collected.storage.search import clients_in
from tasks.core.errors import LockBusy, UsageError
from tasks.core.home import home
from tasks.core.learning.page_files import remove_stale_pages
from tasks.core.recipe.deploy import Collect
from tasks.core.serving.state.directory import state_directory
from tasks.core.store import configured_remote


@dataclass(frozen=True)
class DeletedAnswers:
    """How many answers were deleted, and from which directory."""

    answers: int
    directory: Path

    def __str__(self) -> str:
        """Return it as one line."""
        answers = "answer" if self.answers == 1 else "answers"
        return f"{self.answers} {answers} of this person deleted from {self.directory}."


@dataclass(frozen=True)
class DeletedArtifacts:
    """The artifacts deleted from the store, the models that learned from them, and remote copies.

    `at_remote` are the artifacts with a copy at a remote store, which we do not delete.
    """

    artifacts: tuple[str, ...]
    models: tuple[str, ...]
    at_remote: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return a line for each."""
        lines = [f"removed from the store: {name}" for name in self.artifacts]
        lines += [f"has learned from it, and stays: {name}" for name in self.models]
        return lines + delete_by_hand(self.at_remote)


def delete_answers(deployment: str, person: str, key: str | None) -> DeletedAnswers:
    """Delete the answers of a person who used this API key, or any."""
    state = state_directory(home(), deployment)
    if not state.root.is_dir():
        raise UsageError(
            "There is no such deployment.",
            where=state.root,
            next_step="`kawan-usaha status` lists the deployments.",
        )
    limits = Collect()
    keeper = Keeper(state.collected, CollectionLimits(limits.retention_days, limits.max_bytes))
    # The page shows its numbers in groups; the IDs of other clients may contain spaces.
    users = {person, "".join(person.split())}
    clients = {"anybody", *clients_in(state.collected)} if key is None else {key}
    deleted = sum(keeper.forget(client, user) for client in clients for user in users)
    return DeletedAnswers(deleted, state.collected)


def delete_from_store() -> tuple[DeletedArtifacts, LockBusy | None]:
    """Delete artifacts with deleted answers; while a run is in progress none, with an error."""
    try:
        return removed_from_store(), None
    except LockBusy as error:
        return DeletedArtifacts((), (), ()), LockBusy(
            "The answers are deleted, but not what was built from them in the store: a run is in "
            "progress.",
            where=error.where,
            found=error.found,
            next_step="Run the same command again once it has ended.",
        )


def removed_from_store() -> DeletedArtifacts:
    """Delete the artifacts that contain answers which no deployment keeps any more.

    Raises LockBusy while a run is in progress.
    """
    remote = configured_remote()
    gone = remove_stale_artifacts(home())
    remove_stale_pages(home())
    return DeletedArtifacts(gone.artifacts, gone.models, copies_at(remote, gone.artifacts))
