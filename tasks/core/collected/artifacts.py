"""Which artifacts of the store hold answers that their deployment no longer keeps.

An answer is deleted because a person wants it, or because its time is over; what was made of it
before is found by its id. Artifacts with what people wrote go: the reviewed sets, and what was
prepared or measured with them. Models that have learned from them are named and stay, for nothing
takes a text out of weights. The invariant: what cannot be told from one that holds a deleted answer
counts as one.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.core.collected.kept_ids import kept_ids
from tasks.core.collected.place import COLLECTED, held
from tasks.core.collected.reviewed import REVIEWS
from tasks.core.files.listing import matching
from tasks.core.store import Manifest, Store
from tasks.core.store.manifest import manifest_of
from tasks.core.store.pushed import was_fetched
from tasks.core.store.run_record import RunRecord
from tasks.core.store.runs import RunRecords
from tasks.core.store.shelf import EntryKind

STAGE = "collected"
_WITH_TEXTS = frozenset({"prepare", "evaluate"})
_MODELS = frozenset({"finetune", "fuse"})
_DATA = ("data", "training")
"""Of which data something was made, among the inputs in a manifest."""
_UNFINISHED = _WITH_TEXTS | {"finetune"}
_NAME = re.compile(r"(([a-z]+)-[0-9a-f]{20})(?![0-9a-f])")


@dataclass(frozen=True)
class Lost:
    """What holds deleted answers: directories that are to go, by what they are of the store.

    models are the names of those that have learned from such answers, and stay.
    """

    going: dict[Path, EntryKind]
    models: tuple[str, ...] = ()

    @property
    def artifacts(self) -> tuple[str, ...]:
        """The names of the artifacts among them, also of those of which only a note is here."""
        names = {path.name for path, place in self.going.items() if place in ("artifact", "freed")}
        return tuple(sorted(names))


@dataclass(frozen=True)
class _Found:
    """A directory of the store, whatever is in it."""

    path: Path
    place: EntryKind
    name: str
    stage: str
    manifest: Manifest | None

    @property
    def is_half(self) -> bool:
        """Whether it is unfinished, damaged, or on its way out."""
        return self.place not in ("artifact", "freed")


def lost(home: Path) -> Lost:
    """Return what holds answers that are no longer kept by a deployment of this machine.

    Raises LockBusy and OSError.
    """
    found = list(_directories(Store(home)))
    sets = [each for each in found if each.stage == STAGE]
    if not sets:
        return Lost({})
    kept = _Kept(home)
    bad = [each for each in sets if not kept.has_all_of(each)]
    going = {each.path: each.place for each in bad}
    names = {each.name for each in bad if not each.is_half}
    if not names:  # nothing is made of a half one
        return Lost(going)
    runs = RunRecords(home).all()
    known = {name for run in runs for name in run.artifacts}
    made = _made_from(runs, names, found)
    for each in found:
        unknown = each.is_half and each.name not in known
        if each.stage in (_UNFINISHED if each.is_half else _WITH_TEXTS) and (
            each.name in made or unknown
        ):
            going[each.path] = each.place
    models = {each.name for each in found if each.stage in _MODELS and not each.is_half} & made
    return Lost(going, tuple(sorted(models)))


def remove_lost(home: Path) -> Lost:
    """Remove what `lost` finds, and return it. Raises LockBusy while a run is in progress."""
    store = Store(home)
    if not store.root.is_dir():
        return Lost({})
    with store.unused():
        found = lost(home)
        store.remove(found.going)
    return found


class _Kept:
    """What the deployments of this machine keep, read once each."""

    def __init__(self, home: Path) -> None:
        self._store = Store(home).root
        self._directories = {
            path.parent.name: path for path in matching(home / "serving", f"*/{COLLECTED}")
        }
        self._ids: dict[Path, frozenset[str]] = {}

    def has_all_of(self, found: _Found) -> bool:
        """Return whether each answer of a reviewed set is still kept.

        True for the set of a deployment of another machine, which was fetched: that one knows. A
        deployment of this machine whose directory was removed keeps nothing.
        """
        params = None if found.manifest is None else found.manifest.params
        deployment = params.get("deployment") if isinstance(params, dict) else None
        directory = self._directories.get(deployment) if isinstance(deployment, str) else None
        if directory is None:
            return deployment is not None and was_fetched(self._store, found.name)
        spoken_of = _ids(found.path)
        return spoken_of is not None and spoken_of <= self._kept_in(directory)

    def _kept_in(self, directory: Path) -> frozenset[str]:
        if directory not in self._ids:
            with held(directory, "look for what was deleted", shared=True):
                self._ids[directory] = kept_ids(directory)
        return self._ids[directory]


def _ids(directory: Path) -> set[str] | None:
    """Return the answers that a reviewed set speaks of, None where that cannot be read."""
    try:
        found = json.loads((directory / REVIEWS).read_bytes())
    except (OSError, ValueError):
        return None
    return set(found) if isinstance(found, dict) else None


def _made_from(runs: list[RunRecord], names: set[str], found: list[_Found]) -> set[str]:
    """Return the names of what was made from these artifacts, directly or not.

    By the digests in the manifests. The digest of several sources together names none of them:
    there, and where nothing is known, the records of the runs tell that used one of these.
    """
    made = set(names)
    untold = _untold(found)
    for run in runs:
        if names & set(run.artifacts):
            made |= untold & set(run.artifacts)
    while True:
        digests = {digest for each in found if each.name in made for digest in _digests_of(each)}
        more = {
            each.name
            for each in found
            if each.name not in made
            and each.stage in (_WITH_TEXTS | _MODELS)
            and _names_one_of(each.manifest, digests)
        }
        if not more:
            return made
        made |= more


def _untold(found: list[_Found]) -> set[str]:
    """Return the names of what does not say of which artifact its data is."""
    known = {digest for each in found for digest in _digests_of(each)}
    return {
        each.name
        for each in found
        if each.stage in _WITH_TEXTS | _MODELS
        and (
            each.manifest is None
            or any(each.manifest.inputs.get(name, "") not in {"", *known} for name in _DATA)
        )
    }


def _digests_of(found: _Found) -> Iterator[str]:
    if found.manifest is not None:
        yield found.manifest.content_digest
        yield from (file.sha256 for file in found.manifest.files.values() if file.size_bytes)


def _names_one_of(manifest: Manifest | None, digests: set[str]) -> bool:
    if manifest is None:
        return False
    words = re.findall(r"[0-9a-f]{64}", json.dumps([manifest.params, manifest.inputs]))
    return not digests.isdisjoint(words)


def _directories(store: Store) -> Iterator[_Found]:
    for place, paths in store.contents().items():
        for path in paths:
            match = _NAME.match(path.name)
            if match is not None:
                yield _Found(path, place, match[1], match[2], manifest_of(path))
