"""Copies at a remote store of artifacts that were removed here; they are listed, not removed."""

from collections.abc import Iterable, Iterator

from tasks.core.errors import KawanUsahaError
from tasks.core.store.remote import FILES, RemoteStore


def copies_at(remote: RemoteStore | None, names: Iterable[str]) -> tuple[str, ...]:
    """Return the addresses of folders and files at the remote store that hold these artifacts.

    An artifact that is broken, or cannot be looked up now, counts as a copy.
    """
    return () if remote is None else tuple(each for name in names for each in _of(remote, name))


def _of(remote: RemoteStore, name: str) -> Iterator[str]:
    try:
        shared = remote.find(name)
    except KawanUsahaError:
        yield f"{remote.url}/{name}"
        return
    if shared is None:
        return
    yield f"{remote.url}/{name}"
    for file in shared.manifest.files.values():
        if file.size_bytes:  # an empty file belongs to every artifact
            yield f"{remote.url}/{FILES}/{file.sha256}"
