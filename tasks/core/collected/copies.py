"""What a remote store still has of artifacts that were removed here. We remove nothing there."""

from collections.abc import Iterable, Iterator

from tasks.core.errors import KawanUsahaError
from tasks.core.store.remote import FILES, RemoteStore


def copies_at(remote: RemoteStore | None, names: Iterable[str]) -> tuple[str, ...]:
    """Return the folders and files there that hold these artifacts, by their addresses.

    One that is broken, or of which nothing can be told now, counts as a copy.
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
        if file.size_bytes:  # the empty one is everybody's
            yield f"{remote.url}/{FILES}/{file.sha256}"
