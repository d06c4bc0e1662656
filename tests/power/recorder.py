"""What happens to the names and bytes below a directory, in order, and what was synced when.

The directory is read before and after each call that can change names, write or sync, so what
compiled libraries write through no function of Python's is seen, too, at the next such call. Only a
sync that goes through `os.fsync` or `os.fdatasync` of this process counts, and it is not carried
out, for no power is cut here. One that is missed can make a state look possible that is not, never
the other way round.
"""

import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

Node = int
"""A file, directory or link, whatever its names: an inode that is never used again."""
Name = tuple[Node, str]
"""A name inside a directory."""
Changes = Mapping[Name, Node | None]
"""Names given, and names taken away."""
ROOT: Node = 0

_NAMING = ("rename", "replace", "link", "symlink", "unlink", "remove", "mkdir", "rmdir", "truncate")
_WRITING = ("write", "pwrite", "writev", "pwritev", "ftruncate")
_SYNCING = ("fsync", "fdatasync")


@dataclass(frozen=True)
class Thing:
    """What a node is; a file's bytes, or where a link leads."""

    kind: Literal["directory", "file", "link"]
    content: bytes = b""


@dataclass(frozen=True)
class Step:
    """What one call did, or what was seen to be done before it. A sync's label is its path.

    changes: names given and taken away, each with all that one call did at once. things: nodes that
    are new or have other bytes. synced: the node that a sync was about. promised: what the work has
    declared finished by then.
    """

    label: str
    changes: tuple[Changes, ...]
    things: Mapping[Node, Thing]
    synced: Node | None
    promised: frozenset[str]


@dataclass
class Recording:
    """All steps of a piece of work below root, from a state that was wholly on the disk."""

    root: Path
    names: dict[Name, Node] = field(default_factory=dict)
    things: dict[Node, Thing] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    _promised: frozenset[str] = frozenset()

    def promise(self, *what: str) -> None:
        """Say that what was promised before holds no longer, and that this does from now on."""
        self._promised = frozenset(what)
        self.add("promise " + ", ".join(what))

    def add(
        self,
        label: str,
        changes: tuple[Changes, ...] = (),
        things: Mapping[Node, Thing] | None = None,
        synced: Node | None = None,
    ) -> None:
        """Add a step."""
        things = things or {}
        self.steps.append(Step(label, changes, things, synced, self._promised))

    def without(self, pattern: str) -> "Recording":
        """Return what happens on a disk that ignores the syncs of paths that a pattern matches.

        A path is one below root, "." for root itself. Raises LookupError when there are none.
        """

        def is_ignored(step: Step) -> bool:
            return step.synced is not None and fnmatchcase(step.label, pattern)

        if not any(map(is_ignored, self.steps)):
            raise LookupError(f"{pattern} was never synced")
        steps = [replace(each, synced=None) if is_ignored(each) else each for each in self.steps]
        return replace(self, steps=steps)


@contextmanager
def recorded(root: Path) -> Iterator[Recording]:
    """Record what the block does below root. What is there before counts as on the disk."""
    watcher = _Watcher(root)
    with ExitStack() as patches:
        for names, watched in (
            (_NAMING, watcher.naming),
            (_WRITING, watcher.writing),
            (_SYNCING, watcher.syncing),
        ):
            for name in names:
                call = watched(name, getattr(os, name))
                patches.enter_context(patch.object(os, name, call))
        yield watcher.recording
    watcher.look("the end")


class _Watcher:
    """Compares the directory with what it was at the last look, under one lock."""

    def __init__(self, root: Path) -> None:
        self._root, self._lock, self._next = root.resolve(), threading.RLock(), ROOT
        self._inodes: dict[int, Node] = {}
        self._names: dict[Name, Node] = {}
        self._things: dict[Node, Thing] = {}
        self._scan()
        self.recording = Recording(self._root, dict(self._names), dict(self._things))

    def look(self, label: str) -> None:
        """Add what has changed since the last look, if anything has."""
        names, things = self._names, self._things
        self._scan()
        changed = {
            key: self._names.get(key)
            for key in {**names, **self._names}
            if names.get(key) != self._names.get(key)
        }
        fresh = {node: thing for node, thing in self._things.items() if things.get(node) != thing}
        if changed or fresh:
            changes = tuple(_calls(changed, names))
            self.recording.add(label, changes, fresh)

    def naming(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*given: Any, **options: Any) -> Any:
            with self._lock:
                self.look(f"before {name}")
                result = call(*given, **options)
                self.look(" ".join([name, *(self._shown(each) for each in given[:2])]))
            return result

        return watched

    def writing(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(fd: int, *given: Any, **options: Any) -> Any:
            if self._below(fd) is None:
                return call(fd, *given, **options)
            with self._lock:
                result = call(fd, *given, **options)
                self.look(f"{name} {self._below(fd)}")
            return result

        return watched

    def syncing(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(fd: int) -> None:
            if (path := self._below(fd)) is None:
                call(fd)
                return
            with self._lock:
                self.look(f"before {name}")
                node = self._inodes.get(os.fstat(fd).st_ino)
                self.recording.add(path, synced=node)

        return watched

    def _below(self, fd: int) -> str | None:
        """Return the path of an open file below the root, None for any other."""
        try:
            path = str(Path(f"/proc/self/fd/{fd}").readlink())
        except OSError:
            return None
        return self._shown(path) if f"{path}/".startswith(f"{self._root}/") else None

    def _shown(self, path: Any) -> str:
        if isinstance(path, int):
            return ""
        text = os.fsdecode(path)
        return "." if text == str(self._root) else text.removeprefix(f"{self._root}/")

    def _scan(self) -> None:
        """Read the directory. A file that another thread takes away meanwhile is not there."""
        inodes: dict[int, Node] = {}
        self._names, things = {}, {}
        queue = [(self._root, self._node(self._root.stat().st_ino, inodes))]
        things[ROOT] = Thing("directory")
        while queue:
            directory, parent = queue.pop()
            for entry in os.scandir(directory):
                try:
                    state = entry.stat(follow_symlinks=False)
                    thing = _thing(entry.path, state.st_mode)
                except FileNotFoundError:
                    continue
                if thing is None:
                    continue
                node = self._node(state.st_ino, inodes)
                self._names[parent, entry.name] = node
                things[node] = thing
                if thing.kind == "directory":
                    queue.append((Path(entry.path), node))
        self._inodes, self._things = inodes, things

    def _node(self, inode: int, seen: dict[int, Node]) -> Node:
        if inode not in seen:
            known = self._inodes.get(inode)
            seen[inode] = self._next if known is None else known
            self._next += known is None
        return seen[inode]


def _thing(path: str, mode: int) -> Thing | None:
    if stat.S_ISDIR(mode):
        return Thing("directory")
    if stat.S_ISLNK(mode):
        return Thing("link", os.fsencode(Path(path).readlink()))
    return Thing("file", Path(path).read_bytes()) if stat.S_ISREG(mode) else None


def _calls(names: Changes, before: Mapping[Name, Node]) -> Iterator[Changes]:
    """Yield the changes that belong together: a rename gives one name and takes another."""
    moved: dict[Node | None, dict[Name, Node | None]] = {}
    for name, node in names.items():
        moved.setdefault(before.get(name) if node is None else node, {})[name] = node
    yield from moved.values()
