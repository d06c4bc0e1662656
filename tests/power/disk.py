"""What a disk may hold after the power went, at each moment of a recording.

Only what POSIX promises counts. A file's bytes are there once the file was synced; before that they
are old, new, zeros or half of each. A name is there, or gone, once its directory was synced; before
that any of the pending changes may have been made, in any order, each one whole. A rename from one
directory to another is one change, made once either of the two was synced: so the journals of ext4,
XFS and Btrfs have it. ext4 keeps more than this model; code that holds here needs none of that.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.power.recorder import ROOT, Changes, Name, Node, Recording, Step, Thing


@dataclass(frozen=True)
class State:
    """What the disk holds: names, and what they are the names of. label tells when it was cut."""

    label: str
    names: Mapping[Name, Node]
    things: Mapping[Node, Thing]
    promised: frozenset[str]

    def identity(self) -> tuple[object, ...]:
        """Return what differs whenever a reader could see a difference."""
        names = frozenset(self.names.items())
        return names, frozenset((n, self.things[n]) for n in self.names.values()), self.promised


@dataclass(frozen=True)
class _Moment:
    label: str
    names: Mapping[Name, Node]
    pending: tuple[Changes, ...]
    on_disk: Mapping[Node, Thing]
    written: Mapping[Node, tuple[Thing, ...]]
    promised: frozenset[str]

    def state(
        self, how: str, kept: Callable[[int], bool], bytes_of: Callable[["_Moment", Node], Thing]
    ) -> State:
        """Return the state in which the changes that `kept` names were made."""
        names: dict[Name, Node | None] = dict(self.names)
        for number, changes in enumerate(self.pending):
            if kept(number):
                names.update(changes)
        found = _reachable({name: node for name, node in names.items() if node is not None})
        things = {node: bytes_of(self, node) for node in (ROOT, *found.values())}
        return State(f"{self.label}: {how}", found, things, self.promised)


def states(recording: Recording, *, seed: int, at_random: int) -> Iterator[State]:
    """Yield what the disk may hold after a cut at each moment, each such state once.

    A moment has the states in which all pending changes were made, or none, or all but one, or one
    alone, each with every kind of bytes; and so many at random.
    """
    seen = set()
    rng = random.Random(seed)  # noqa: S311 - no secret
    for moment in _moments(recording):
        for state in _states(moment, rng, at_random):
            identity = state.identity()
            if identity not in seen:
                seen.add(identity)
                yield state


def _states(moment: _Moment, rng: random.Random, at_random: int) -> Iterator[State]:
    for kind, bytes_of in _BYTES.items():
        yield moment.state(f"no name, {kind} bytes", lambda _: False, bytes_of)
        yield moment.state(f"every name, {kind} bytes", lambda _: True, bytes_of)
    for number, changes in enumerate(moment.pending):
        what = ", ".join(name for _, name in changes)
        for kind in ("old", "new"):
            bytes_of = _BYTES[kind]
            yield moment.state(f"only {what}, {kind}", lambda n, m=number: n == m, bytes_of)
            yield moment.state(f"all but {what}, {kind}", lambda n, m=number: n != m, bytes_of)
    for _ in range(at_random if moment.pending or moment.written else 0):
        made = {n for n in range(len(moment.pending)) if rng.random() < 0.5}
        any_bytes = {node: rng.choice([*_BYTES.values()]) for node in moment.written}
        yield moment.state(
            "at random",
            made.__contains__,
            lambda m, node, b=any_bytes: b.get(node, _new)(m, node),
        )


def _moments(recording: Recording) -> Iterator[_Moment]:
    names, on_disk = dict(recording.names), dict(recording.things)
    pending: list[dict[Name, Node | None]] = []
    written: dict[Node, tuple[Thing, ...]] = {}

    def moment(step: Step) -> _Moment:
        kept = tuple(dict(changes) for changes in pending)
        return _Moment(step.label, dict(names), kept, dict(on_disk), dict(written), step.promised)

    for step in recording.steps:
        for node, thing in step.things.items():
            written[node] = (*written.get(node, ()), thing)
        pending += [dict(changes) for changes in step.changes]
        if step.synced is not None:
            if step.synced in written:
                on_disk[step.synced] = written.pop(step.synced)[-1]
            _sync_names(step.synced, names, pending)
        yield moment(step)


def _sync_names(
    directory: Node, names: dict[Name, Node], pending: list[dict[Name, Node | None]]
) -> None:
    """Make what is pending in a directory certain. What came before on the same names is over."""
    for changes in [c for c in pending if any(parent == directory for parent, _ in c)]:
        before = pending[: next(i for i, c in enumerate(pending) if c is changes)]
        for earlier in before:
            for name in changes.keys() & earlier.keys():
                del earlier[name]
        for name, node in changes.items():
            if node is None:
                names.pop(name, None)
            else:
                names[name] = node
        changes.clear()
    pending[:] = [changes for changes in pending if changes]


def _reachable(names: Mapping[Name, Node]) -> dict[Name, Node]:
    children: dict[Node, list[Name]] = {}
    for name in names:
        children.setdefault(name[0], []).append(name)
    found, queue = {}, [ROOT]
    while queue:
        for name in children.get(queue.pop(), ()):
            found[name] = names[name]
            queue.append(names[name])
    return found


def _new(moment: _Moment, node: Node) -> Thing:
    return moment.written[node][-1] if node in moment.written else moment.on_disk[node]


def _old(moment: _Moment, node: Node) -> Thing:
    """Return what was synced last; a file that never was is empty: its blocks come later."""
    new = _new(moment, node)
    return new if new.kind != "file" else moment.on_disk.get(node, Thing("file"))


def _zeros(moment: _Moment, node: Node) -> Thing:
    """Return a file that has its size, and none of its bytes since the last sync."""
    old, new = _old(moment, node), _new(moment, node)
    if node not in moment.written or new.kind != "file":
        return new
    return Thing("file", old.content[: len(new.content)].ljust(len(new.content), b"\0"))


def _torn(moment: _Moment, node: Node) -> Thing:
    """Return a file whose first half has arrived."""
    new, zeros = _new(moment, node), _zeros(moment, node)
    half = len(new.content) // 2
    return Thing(new.kind, new.content[:half] + zeros.content[half:])


def _earlier(moment: _Moment, node: Node) -> Thing:
    """Return the first bytes since the last sync."""
    return moment.written[node][0] if node in moment.written else _new(moment, node)


_BYTES: dict[str, Callable[[_Moment, Node], Thing]] = {
    "old": _old,
    "new": _new,
    "zero": _zeros,
    "torn": _torn,
    "earlier": _earlier,
}
