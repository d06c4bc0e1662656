"""Artifacts of the store that hold answers which their deployment no longer keeps.

Answers are deleted on request or when their retention ends; artifacts made from them are found by
their ids. Artifacts with texts of people are removed: reviewed sets, and what was prepared from or
measured with them. Models trained on them are reported but stay: a text cannot be removed from
weights. The invariant: an artifact that may hold a deleted answer counts as holding it.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.core.collected.review.reviewed_set import DECISIONS_FILE
from tasks.core.collected.storage.directory import COLLECTED, directory_lock
from tasks.core.collected.storage.kept_ids import kept_ids
from tasks.core.files.listing import matching
from tasks.core.store import Manifest, Store
from tasks.core.store.manifest import manifest_of
from tasks.core.store.pushed import was_fetched
from tasks.core.store.run_record import RunRecord
from tasks.core.store.runs import RunRecords
from tasks.core.store.shelf import EntryKind

COLLECTED_STAGE = "collected"
_WITH_TEXTS = frozenset({"prepare", "evaluate"})
_MODELS = frozenset({"finetune", "fuse"})
_DATA = ("data", "training")
"""The inputs in a manifest that name the data."""
_UNFINISHED = _WITH_TEXTS | {"finetune"}
_NAME = re.compile(r"(([a-z]+)-[0-9a-f]{20})(?![0-9a-f])")


@dataclass(frozen=True)
class StaleArtifacts:
    """The directories that hold deleted answers and are to be removed, by their place in the store.

    models are the names of models that were trained on such answers; they stay.
    """

    going: dict[Path, EntryKind]
    models: tuple[str, ...] = ()

    @property
    def artifacts(self) -> tuple[str, ...]:
        """The names of the artifacts among them, including freed ones."""
        names = {path.name for path, place in self.going.items() if place in ("artifact", "freed")}
        return tuple(sorted(names))


@dataclass(frozen=True)
class _Found:
    """A directory of the store, whatever it holds."""

    path: Path
    place: EntryKind
    name: str
    stage: str
    manifest: Manifest | None

    @property
    def is_half(self) -> bool:
        """Whether it is unfinished, damaged, or being removed."""
        return self.place not in ("artifact", "freed")


def stale_artifacts(home: Path) -> StaleArtifacts:
    """Return what holds answers that the deployments of this machine no longer keep.

    Raises LockBusy and OSError.
    """
    found = list(_directories(Store(home)))
    sets = [each for each in found if each.stage == COLLECTED_STAGE]
    if not sets:
        return StaleArtifacts({})
    kept = _Kept(home)
    bad = [each for each in sets if not kept.has_all_of(each)]
    going = {each.path: each.place for each in bad}
    names = {each.name for each in bad if not each.is_half}
    if not names:  # nothing is made from an unfinished one
        return StaleArtifacts(going)
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
    return StaleArtifacts(going, tuple(sorted(models)))


def remove_stale_artifacts(home: Path) -> StaleArtifacts:
    """Remove what `stale_artifacts` finds; return it. Raises LockBusy during a run."""
    store = Store(home)
    if not store.root.is_dir():
        return StaleArtifacts({})
    with store.unused():
        found = stale_artifacts(home)
        store.remove(found.going)
    return found


class _Kept:
    """The answers that the deployments of this machine keep, each read once."""

    def __init__(self, home: Path) -> None:
        self._store = Store(home).root
        self._directories = {
            path.parent.name: path for path in matching(home / "serving", f"*/{COLLECTED}")
        }
        self._ids: dict[Path, frozenset[str]] = {}

    def has_all_of(self, found: _Found) -> bool:
        """Return whether every answer of a reviewed set is still kept.

        True for a set fetched from another machine, which does its own check. A deployment of this
        machine whose directory was removed keeps nothing.
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
            with directory_lock(directory, "look for what was deleted", shared=True):
                self._ids[directory] = kept_ids(directory)
        return self._ids[directory]


def _ids(directory: Path) -> set[str] | None:
    """Return the ids of the answers in a reviewed set, None if they cannot be read."""
    try:
        found = json.loads((directory / DECISIONS_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return set(found) if isinstance(found, dict) else None


def _made_from(runs: list[RunRecord], names: set[str], found: list[_Found]) -> set[str]:
    """Return the names of everything made from these artifacts, directly or indirectly.

    Found by the digests in manifests. A combined digest of several sources identifies none of them;
    for these, and for missing manifests, the records of runs that used one of the artifacts decide.
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
    """Return the names of artifacts whose manifests do not identify their data."""
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
