"""Cutting the power: states of a disk put down as files, and the real readers asked about them."""

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.power.disk import State, states
from tests.power.recorder import ROOT, Node, Recording

Check = Callable[[Path, frozenset[str]], None]
"""Raises when a directory is not as it must be after a cut, given what was promised before it."""


@dataclass(frozen=True)
class Survey:
    """How many states were looked at, and what was wrong in those that were not as they must be."""

    states: int
    wrong: tuple[str, ...]


def cut(
    recording: Recording,
    scratch: Path,
    check: Check,
    *,
    seed: int = 20261130,
    at_random: int = 6,
    at_most: int = 1000,
    enough: int = 3,
) -> Survey:
    """Cut the power at each moment and check what may be left; end after `enough` that are wrong.

    scratch is a directory for the states. Of more than `at_most` some are looked at, drawn evenly.
    """
    count, wrong = 0, []
    every = list(states(recording, seed=seed, at_random=at_random))
    drawn = random.Random(seed).sample(every, min(at_most, len(every)))  # noqa: S311 - no secret
    for state in drawn:
        count += 1
        root = scratch / recording.root.name
        put_down(state, root)
        try:
            check(root, state.promised)
        except Exception as error:  # noqa: BLE001 - whatever a reader raises tells of a bad state
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            wrong.append(f"after {state.label}: {cause[:400]}")
        shutil.rmtree(root)
        if len(wrong) >= enough:
            break
    return Survey(count, tuple(wrong))


def put_down(state: State, root: Path) -> None:
    """Make root the directory that a state is of. Two names of one file are links to it."""
    root.mkdir(parents=True)
    places: dict[Node, Path] = {ROOT: root}
    children: dict[Node, list[tuple[str, Node]]] = {}
    for (parent, name), node in state.names.items():
        children.setdefault(parent, []).append((name, node))
    queue = [ROOT]
    while queue:
        parent = queue.pop()
        for name, node in children.get(parent, ()):
            path, thing = places[parent] / name, state.things[node]
            if node in places:
                os.link(places[node], path, follow_symlinks=False)
                continue
            places[node] = path
            if thing.kind == "directory":
                path.mkdir()
                queue.append(node)
            elif thing.kind == "link":
                path.symlink_to(os.fsdecode(thing.content))
            else:
                path.write_bytes(thing.content)
