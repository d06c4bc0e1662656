"""Freed artifacts that a run needs after all: built or fetched again, announced first.

The invariant: an artifact that was freed comes back with the content that it had, because later
stages were made from it.
"""

from collections.abc import Callable, Iterator, Sequence

from tasks.core.errors import CorruptArtifact
from tasks.core.store.shelf import Artifact, Shelf

Rebuild = Callable[[], Artifact]


class Restoring:
    """Restores what was freed. say gets a line before; remote is where it may be fetched from."""

    def __init__(self, shelf: Shelf, say: Callable[[str], object], remote: str | None) -> None:
        self._shelf, self._say, self._remote = shelf, say, remote
        self._rebuilds: dict[str, Rebuild] = {}
        self._needs: dict[str, tuple[str, ...]] = {}
        self._announced: set[str] = set()

    def remember(self, name: str, rebuild: Rebuild, needs: Sequence[str]) -> None:
        """Remember how an artifact is built, and which others that reads."""
        self._rebuilds[name] = rebuild
        self._needs[name] = tuple(needs)

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return those of these artifacts that were freed."""
        return [name for name in names if self._freed(name) is not None]

    def restore(self, names: Sequence[str]) -> None:
        """Bring these artifacts back. Raises CorruptArtifact where one comes out differently."""
        self._announce(names)
        for name in names:
            self._restore(name)

    def _restore(self, name: str) -> None:
        before = self._shelf.freed(name)
        if name not in self._rebuilds:
            raise CorruptArtifact(
                "An artifact that this stage reads was freed, and this run cannot rebuild it.",
                where=self._shelf.root / name,
                next_step="Run again.",
            )
        made = self._rebuilds[name]()
        if before is not None and made.digest != before.digest:
            raise CorruptArtifact(
                "An artifact that was freed came out differently when it was rebuilt.",
                where=made.path,
                expected=f"content {before.digest[:20]}",
                found=f"content {made.digest[:20]}",
                next_step="Run again: the stages after it are then built from the new content.",
            )

    def _announce(self, names: Sequence[str]) -> None:
        """Say once what restoring these and their inputs takes, judged by the first time."""
        wanted = {str(artifact.key): artifact for artifact in self._wanted(names)}
        if not wanted:
            return
        size = sum(artifact.manifest.size_bytes for artifact in wanted.values())
        wall_s = sum(artifact.manifest.wall_s for artifact in wanted.values())
        cost = (
            f"Building it again writes up to {size / 1e6:,.1f} MB and took {wall_s:,.0f} s the "
            "first time."
        )
        found = ", ".join(wanted)
        if self._remote is None:
            self._say(f"Freed by an earlier run and needed now: {found}. {cost}")
        else:
            self._say(f"Not here and needed now: {found}. Unless {self._remote} has it: {cost}")

    def _wanted(self, names: Sequence[str]) -> Iterator[Artifact]:
        """Yield what was freed of these and their inputs, and has not been announced yet."""
        queue = list(names)
        while queue:
            name = queue.pop(0)
            freed = self._freed(name)
            if name not in self._announced and freed is not None:
                self._announced.add(name)
                yield freed
                if self._remote is None:  # what is fetched needs nothing else
                    queue += self._needs.get(name, ())

    def _freed(self, name: str) -> Artifact | None:
        return None if (self._shelf.root / name).exists() else self._shelf.freed(name)
