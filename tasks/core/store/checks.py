"""Whether an artifact is what its manifest says: by sizes in a moment, by content byte for byte."""

from collections.abc import Iterator
from pathlib import Path

from tasks.core.errors import CorruptArtifact
from tasks.core.files import digest_of
from tasks.core.store.manifest import MANIFEST, Manifest, read_manifest


def wrong_sizes(directory: Path, manifest: Manifest) -> Iterator[str]:
    """Yield what is missing or has another size than the manifest says."""
    for name, file in manifest.files.items():
        try:
            size = (directory / name).stat().st_size
        except FileNotFoundError:
            yield f"{name} is missing"
        else:
            if size != file.size_bytes:
                yield f"{name} has {size} bytes instead of {file.size_bytes}"


def wrong_content(directory: Path) -> Iterator[str]:
    """Yield all that differs from the manifest; every file is read."""
    try:
        manifest = read_manifest(directory)
    except CorruptArtifact as error:
        yield error.what
        return
    if manifest is None:
        yield "there is no manifest: it was never whole"
        return
    sizes = list(wrong_sizes(directory, manifest))
    yield from sizes
    for name, file in manifest.files.items():
        path = directory / name
        if any(s.startswith(f"{name} ") for s in sizes):
            continue
        try:
            if digest_of(path) != file:
                yield f"{name} has other bytes than when it was made"
        except OSError as error:
            yield f"{name} cannot be read: {error.strerror}"
    known = {*manifest.files, MANIFEST}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_file() and name not in known:
            yield f"{name} was not there when it was made"
