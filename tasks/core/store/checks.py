"""Comparing an artifact with its manifest: quickly by sizes, or completely by content."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tasks.core.errors import CorruptArtifact
from tasks.core.files.digests import FileDigest, digest_of
from tasks.core.files.listing import paths_below
from tasks.core.store.manifest import MANIFEST, Manifest, read_manifest
from tasks.core.system.errors import may_pass
from tasks.core.system.threads import on_every_core


def wrong_sizes(directory: Path, manifest: Manifest) -> Iterator[str]:
    """Yield each file that is missing or differs in size from the manifest."""
    for name, file in manifest.files.items():
        try:
            size = (directory / name).stat().st_size
        except FileNotFoundError:
            yield f"{name} is missing"
        except OSError as error:
            yield _unreadable(name, error)
        else:
            if size != file.size_bytes:
                yield f"{name} has {size} bytes instead of {file.size_bytes}"


def wrong_content(directory: Path) -> Iterator[str]:
    """Yield everything that differs from the manifest; every file is read."""
    try:
        manifest = read_manifest(directory)
    except CorruptArtifact as error:
        yield error.what
        return
    if manifest is None:
        yield "there is no manifest: it was never complete"
        return
    sizes = list(wrong_sizes(directory, manifest))
    yield from sizes
    checks = [
        partial(_wrong_bytes, directory, name, file)
        for name, file in manifest.files.items()
        if not any(s.startswith(f"{name} ") for s in sizes)
    ]
    yield from filter(None, on_every_core(checks, name="verify"))
    known = {*manifest.files, MANIFEST}
    for path in paths_below(directory):
        name = str(path.relative_to(directory))
        # Links to directories are not followed here, but a loader would follow them.
        if name not in known and (path.is_file() or path.is_symlink()):
            yield f"{name} was not there when it was made"


def _wrong_bytes(directory: Path, name: str, file: FileDigest) -> str | None:
    try:
        if digest_of(directory / name) != file:
            return f"{name} has other bytes than when it was made"
    except OSError as error:
        return _unreadable(name, error)
    return None


def _unreadable(name: str, error: OSError) -> str:
    """Return what is wrong. Raises the error again where the file may be intact."""
    if may_pass(error):
        raise error  # a missing permission or descriptor does not damage a file
    return f"{name} cannot be read: {error.strerror}"
