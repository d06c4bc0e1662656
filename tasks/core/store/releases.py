"""What a recipe has released, known on every machine that shares a remote store.

    <url>/releases/<recipe>/<recipe>-<time>.json   the record of one run, as far as it is a release

A release of another machine is recorded here as that of a finished run which made nothing else. So
the release before, what a deployment may serve, and what `prune` keeps are the same everywhere. The
invariant: no record of this machine is changed.
"""

import logging
import re

from pydantic import ValidationError

from tasks.core.errors import SignatureRefused, StorageUnavailable
from tasks.core.storage.urls import in_time
from tasks.core.store.remote import RELEASES, Remote
from tasks.core.store.runs import OpenRun, RunRecord, RunRecords
from tasks.core.store.seals import Document

logger = logging.getLogger(__name__)


def share_release(remote: Remote, run: OpenRun, records: RunRecords) -> None:
    """Tell the other machines what this run has released, unless that was told last.

    So a schedule that releases the same model again and again leaves one file. Raises
    StorageUnavailable, StorageRefused.
    """
    record = run.record
    if record.released is None or _is_told(remote, record, records):
        return
    told = record.model_copy(
        update={
            "finished_at": record.released_at,
            "artifacts": (record.released,),
            "reach": -1,  # it supersedes no run of theirs
        }
    )
    content = told.model_dump_json(indent=1).encode()
    remote.seals.put(remote.place, _document(record.recipe, run.path.name, content))
    remote.place.replace(f"{RELEASES}/{record.recipe}/{run.path.name}", content)


def _is_told(remote: Remote, record: RunRecord, records: RunRecords) -> bool:
    """Return whether the last release that was told is this one, and is signed as it would be."""
    folder = f"{RELEASES}/{record.recipe}"
    there = set(remote.place.files(folder))
    told = {path.name: each for path, each in records.by_path().items() if path.name in there}
    if not told:
        return False
    last = max(told, key=lambda name: told[name].released_at or told[name].ended_at)
    if told[last].release != record.release:
        return False
    content = remote.place.find(f"{folder}/{last}") or b""
    return remote.seals.has_signed(remote.place, _document(record.recipe, last, content))


def take_releases(remote: Remote, records: RunRecords, recipe: str) -> set[str] | None:
    """Record here what other machines have released, and return the names of all records there.

    A file that is no such record, or that nobody has signed who is trusted, is left out, with a
    line in the log. While the remote store cannot be reached it is None: what is on record here
    then counts. Raises StorageRefused.
    """
    try:
        return in_time(lambda: _take(remote, records, recipe), where=remote.url)
    except StorageUnavailable as error:
        logger.warning(
            "What other machines have released of %s since the last run is not known now: %s (%s)",
            recipe,
            error.what,
            remote.url,
        )
        return None


def _take(remote: Remote, records: RunRecords, recipe: str) -> set[str]:
    folder = f"{RELEASES}/{recipe}"
    names = set(remote.place.files(folder))
    for name in sorted(names):
        path = records.root / name
        if path.exists() or not re.fullmatch(rf"{re.escape(recipe)}-\d+T\d+\.json", name):
            continue
        content = remote.place.find(f"{folder}/{name}") or b""
        where = f"{remote.url}/{folder}/{name}"
        try:
            record = RunRecord.model_validate_json(content)
            remote.seals.require(remote.place, _document(recipe, name, content))
        except ValidationError as error:
            logger.warning("%s is no record: %s", where, str(error).splitlines()[0])
            continue
        except SignatureRefused as error:
            logger.warning("%s does not count: %s", where, error)
            continue
        if record.recipe == recipe and record.released is not None:
            OpenRun(path, record).save()
    return names


def _document(recipe: str, name: str, content: bytes) -> Document:
    return Document(f"{recipe}/{name}", "release.json", content, {})
