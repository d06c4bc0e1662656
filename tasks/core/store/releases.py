"""What a recipe has released, known to every machine that shares a remote store.

    <url>/releases/<recipe>/<recipe>-<time>.json   the record of one run, as far as it is a release

A release of another machine is recorded here as a finished run that made nothing else. So the
previous release, what a deployment may serve, and what `prune` keeps are the same everywhere. The
invariant: no record of this machine is changed.
"""

import logging
import re

from pydantic import ValidationError

from tasks.core.errors import SignatureRefused, StorageUnavailable
from tasks.core.storage.urls import in_time
from tasks.core.store.remote import RELEASES, RemoteStore
from tasks.core.store.run_record import OpenRun, RunRecord
from tasks.core.store.runs import RunRecords
from tasks.core.store.seals import Document

logger = logging.getLogger(__name__)


def share_release(remote: RemoteStore, run: OpenRun, records: RunRecords) -> None:
    """Publish to the other machines what this run has released, unless it was the last to be.

    So a schedule that releases the same model again and again leaves one file. Raises
    StorageUnavailable, StorageRefused.
    """
    record = run.record
    if record.released is None or _is_published(remote, record, records):
        return
    published = record.model_copy(
        update={
            "finished_at": record.released_at,
            "artifacts": (record.released,),
            "reach": -1,  # it supersedes no run of theirs
        }
    )
    content = published.model_dump_json(indent=1).encode()
    remote.signatures.sign(_document(record.recipe, run.path.name, content))
    remote.place.replace(f"{RELEASES}/{record.recipe}/{run.path.name}", content)


def _is_published(remote: RemoteStore, record: RunRecord, records: RunRecords) -> bool:
    """Return whether the last release there is this one, and signed as it would be now."""
    folder = f"{RELEASES}/{record.recipe}"
    there = set(remote.place.files(folder))
    known = {path.name: each for path, each in records.by_path().items() if path.name in there}
    last = max(
        known, key=lambda name: known[name].released_at or known[name].ended_at, default=None
    )
    if last is None or known[last].release != record.release:
        return False
    content = remote.place.find(f"{folder}/{last}") or b""
    return remote.signatures.is_signed(_document(record.recipe, last, content))


def take_releases(remote: RemoteStore, records: RunRecords, recipe: str) -> set[str] | None:
    """Record here what other machines have released; return the names of all records there.

    A file that is no such record, or that no trusted key has signed, is logged and skipped. While
    the remote store cannot be reached the result is None: what is on record here then counts.
    Raises StorageRefused.
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


def _take(remote: RemoteStore, records: RunRecords, recipe: str) -> set[str]:
    names = set(remote.place.files(f"{RELEASES}/{recipe}"))
    for name in sorted(names):
        path = records.root / name
        if path.exists() or not re.fullmatch(rf"{re.escape(recipe)}-\d+T\d+\.json", name):
            continue
        record = _read(remote, recipe, name)
        if record is not None and record.recipe == recipe and record.released is not None:
            OpenRun(path, record).save()
    return names


def _read(remote: RemoteStore, recipe: str, name: str) -> RunRecord | None:
    content = remote.place.find(f"{RELEASES}/{recipe}/{name}") or b""
    where = f"{remote.url}/{RELEASES}/{recipe}/{name}"
    try:
        record = RunRecord.model_validate_json(content)
        remote.signatures.require(_document(recipe, name, content))
    except ValidationError as error:
        logger.warning("%s is no record: %s", where, str(error).splitlines()[0])
        return None
    except SignatureRefused as error:
        logger.warning("%s does not count: %s", where, error)
        return None
    return record


def _document(recipe: str, name: str, content: bytes) -> Document:
    return Document(f"{recipe}/{name}", "release.json", content, {})
