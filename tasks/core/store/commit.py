"""From a staging directory to an artifact: digests, fsync, read-only, manifest last, rename.

The invariant: a directory gets an artifact's name only after every byte of it has reached the disk
and its manifest was written last.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tasks.core.files.digests import FileDigest, digests_of
from tasks.core.files.durable import fsync_directory, fsync_tree, make_directory, write_atomically
from tasks.core.files.listing import paths_below
from tasks.core.files.temporary import TEMPORARY
from tasks.core.keys import StageKey, to_jsonable
from tasks.core.store.manifest import MANIFEST, Manifest, remove_note, write_manifest
from tasks.core.store.remote import RemoteArtifact
from tasks.core.store.shelf import Artifact
from tasks.core.store.staging import Staging
from tasks.core.system.measure import Cost


def reopen(staging: Path) -> None:
    """Make a staging directory writable again, also one whose attempt was killed while sealing it.

    A file with a second name is shared with a finished artifact and stays read-only.
    """
    make_directory(staging)
    for path in [path for path in paths_below(staging) if path.is_file()]:
        if path.name.startswith(TEMPORARY) or path == staging / MANIFEST:
            path.unlink()
        elif path.stat().st_nlink == 1:
            path.chmod(0o644)


def seal(
    staging: Staging, key: StageKey, cost: Cost, params: object, inputs: Mapping[str, str]
) -> Manifest:
    """Sync what was built, make it read-only, and write its manifest; return the manifest."""
    names = sorted(
        str(path.relative_to(staging.path)) for path in paths_below(staging.path) if path.is_file()
    )
    files = _digests(staging, names)
    fsync_tree(staging.path)
    for name in names:
        (staging.path / name).chmod(0o444)
    manifest = Manifest(
        stage=key.stage,
        key=key.digest,
        created_at=datetime.now(UTC),
        params=to_jsonable(params),
        inputs=dict(inputs),
        files=files,
        facts=staging.facts,
        wall_s=round(cost.wall_s, 3),
        peak_memory_bytes=cost.peak_memory_bytes,
        private=staging.private,
    )
    write_manifest(staging.path, manifest)
    return manifest


def seal_fetched(directory: Path, fetched: RemoteArtifact) -> None:
    """Do the same for what was fetched, under the very manifest that the remote store has."""
    for name in fetched.manifest.files:
        (directory / name).chmod(0o444)
    fsync_tree(directory)
    write_atomically(directory / MANIFEST, fetched.content, mode=0o444)


def move_in(directory: Path, target: Path, manifest: Manifest) -> Artifact:
    """Rename a sealed directory to its place in the store; return the artifact."""
    directory.rename(target)
    fsync_directory(target.parent)
    remove_note(target)
    return Artifact(target, manifest)


def _digests(staging: Staging, names: Sequence[str]) -> dict[str, FileDigest]:
    """Return the digest of each file: the one that its writer reported, else computed now."""
    files = {
        name: staging.known[name]
        for name in names
        if name in staging.known
        and staging.known[name].size_bytes == (staging.path / name).stat().st_size
    }
    others = [name for name in names if name not in files]
    computed = digests_of([staging.path / name for name in others])
    files.update(zip(others, computed, strict=True))
    return {name: files[name] for name in names}
