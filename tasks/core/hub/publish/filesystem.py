"""Publish a build to a directory or bucket, for teams without a Hub.

Through fsspec, so a path, `file://`, `memory://`, `s3://` and whatever else is installed. A build
lies under `builds/<build>/`; its `manifest.json` is written only after every byte was read back
from there; the small file `current.json` says which build counts and is replaced last of all. A
reader that begins at `current.json` never meets half a build, and going back moves no weights.
Nothing of anybody else's is removed or written over. Does not cover access rights: the bucket's own
rules decide who may read it.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from functools import partial
from itertools import compress
from pathlib import Path, PurePosixPath

from tasks.core.errors import HubError, RevisionNotFound, UploadCorrupt, UsageError
from tasks.core.files.digests import FileDigest
from tasks.core.files.temporary import TEMPORARY
from tasks.core.hub.card.rules import require_valid_card
from tasks.core.hub.publish.files import Wanted, left_out, require_loads, wanted_files
from tasks.core.hub.publish.hub.upload import FILES_AT_ONCE
from tasks.core.hub.publish.license import require_card_terms
from tasks.core.hub.publish.names import build_of, require_build_name, tag_of
from tasks.core.hub.publish.receipt import Receipt
from tasks.core.hub.publish.selection import require_harmless
from tasks.core.hub.publish.signature import SIGNATURE, proven, with_signature
from tasks.core.progress import OnProgress, Tally, silent
from tasks.core.recipe import Publish
from tasks.core.signing import SigningKey
from tasks.core.storage.directory import StorageDirectory
from tasks.core.system.threads import run_all

POINTER = "current.json"
MANIFEST = "manifest.json"


def publish_to_filesystem(
    model: Path,
    files: Mapping[str, FileDigest],
    card: str,
    target: Publish,
    build: str,
    *,
    key: SigningKey | None = None,
    on_progress: OnProgress = silent,
) -> Receipt:
    """Publish the files of a model directory with their card, and return the receipt.

    As `publish.publish`; the receipt's commit is the digest of the build's manifest. Raises
    RecipeError, SecretFound, FileChanged, UploadCorrupt, HubError for another build of this name or
    files of somebody else in the way, and what opening the target raises; `current.json` is as it
    was after each of them.
    """
    if target.target is None:
        raise UsageError(
            "The recipe publishes to a Hub, not to a directory or bucket.",
            where="publish.repo",
            found=target.repo,
            next_step="Use publish for it.",
        )
    require_valid_card(card)
    require_card_terms(card, target)
    wanted = wanted_files(model, files, card)
    require_loads(model, wanted)
    place = StorageDirectory.open(target.target)
    _require_own_pointer(place)
    folder = f"builds/{require_build_name(build)}"
    sealed = f"{folder}/{SIGNATURE}"
    there = None if key is None else place.find(sealed)
    wanted = with_signature(wanted, build, key, there)
    manifest = _manifest_of(build, wanted)
    sent: tuple[str, ...] = ()
    kept = _others(place, folder, wanted.keys())
    if place.exists(f"{folder}/{MANIFEST}"):
        _require_same_build(place, folder, manifest, wanted)
    else:
        sent = _bring(place, folder, wanted, on_progress)
        place.sync(folder)
        place.replace(f"{folder}/{MANIFEST}", manifest)
    there = None if key is None else place.find(sealed)
    signature = proven(there, wanted, key, where=f"{place.url}/{sealed}")
    _point(place, build, manifest)
    total = sum(file.digest.size_bytes for file in wanted.values())
    sent_bytes = sum(wanted[name].digest.size_bytes for name in sent)
    on_progress(total, total)
    return Receipt(
        place=place.url,
        commit=_digest(manifest),
        tag=tag_of(build),
        url=f"{place.url}/{folder}",
        sent_bytes=sent_bytes,
        skipped_bytes=total - sent_bytes,
        files=tuple(sorted(wanted)),
        sent=sent,
        left_out=left_out(files, wanted),
        kept=kept,
        signature=signature,
    )


def rollback_on_filesystem(target: str, tag: str) -> Receipt:
    """Make an earlier build the one that counts, without moving its files.

    Raises RevisionNotFound when no such build is there, whole, with those that are.
    """
    place = StorageDirectory.open(target)
    _require_own_pointer(place)
    build = build_of(tag)
    folder = f"builds/{build}"
    if not place.exists(f"{folder}/{MANIFEST}"):
        whole = [tag_of(name) for name in place.folders("builds") if _is_whole(place, name)]
        raise RevisionNotFound(
            "There is no such build to go back to.",
            where=place.url,
            expected=", ".join(whole) or "no build was published there",
            found=tag_of(build),
            next_step="Name one of the tags above.",
        )
    manifest = place.read(f"{folder}/{MANIFEST}")
    sizes = {name: file["size_bytes"] for name, file in json.loads(manifest)["files"].items()}
    kept = _others(place, folder, sizes.keys())
    _point(place, build, manifest)
    return Receipt(
        place=place.url,
        commit=_digest(manifest),
        tag=tag_of(build),
        url=f"{place.url}/{folder}",
        sent_bytes=0,
        skipped_bytes=sum(sizes.values()),
        files=tuple(sorted(sizes)),
        kept=kept,
    )


def _bring(
    place: StorageDirectory, folder: str, wanted: Mapping[str, Wanted], on_progress: OnProgress
) -> tuple[str, ...]:
    """Send the files that are not there, and read every one back."""
    tally = Tally(sum(file.digest.size_bytes for file in wanted.values()), on_progress)
    were_sent = run_all(
        [partial(_send, place, f"{folder}/{name}", file, tally) for name, file in wanted.items()],
        threads=FILES_AT_ONCE,
        name="publish",
        stop=lambda: None,  # no further file begins; those on their way arrive
    )
    return tuple(compress(wanted, were_sent))


def _send(place: StorageDirectory, path: str, file: Wanted, tally: Tally) -> bool:
    """Bring one file there, and return whether that took sending it."""
    is_missing = place.digest(path) != file.digest
    if is_missing:
        file.require_unchanged()
        place.send(file.source, path)
        _require_arrived(place, path, file)
    tally.add(file.digest.size_bytes)
    return is_missing


def _others(place: StorageDirectory, folder: str, published: Collection[str]) -> tuple[str, ...]:
    """Return somebody else's files in the folder of a build, where nothing but it should be.

    Raises HubError when a loader would read one of them with the build. What a killed writer left
    of a file is removed.
    """
    kept = []
    for name in sorted(place.files(folder).keys() - {*published, MANIFEST}):
        if PurePosixPath(name).name.startswith(TEMPORARY):
            place.remove(f"{folder}/{name}")
        else:
            kept.append(name)
    where = f"{place.url}/{folder}"
    require_harmless(kept, published, where=where, remedy="they are not the build's")
    return tuple(kept)


def _require_own_pointer(place: StorageDirectory) -> None:
    """Raise HubError when a file of another program has the pointer's name."""
    if not place.exists(POINTER):
        return
    try:
        pointer = json.loads(place.read(POINTER))
        own = isinstance(pointer, dict) and pointer.keys() == _pointer_to("", b"").keys()
    except ValueError:
        own = False
    if not own:
        raise HubError(
            "A file that is not of this project stands where the pointer to the build goes.",
            where=f"{place.url}/{POINTER}",
            next_step="Move it away, or name another directory in `publish.target`.",
        )


def _require_arrived(place: StorageDirectory, path: str, file: Wanted) -> None:
    found = place.digest(path)
    if found == file.digest:
        return
    file.require_unchanged()
    raise UploadCorrupt(
        "What arrived is not what was sent.",
        where=f"{place.url}/{path}",
        expected=file.digest,
        found=found,
        next_step="Publish again: only the files that differ are sent. current.json was not "
        "touched.",
    )


def _require_same_build(
    place: StorageDirectory, folder: str, manifest: bytes, wanted: Mapping[str, Wanted]
) -> None:
    """Return when the finished build in folder is this one; by its manifest and all sizes."""
    if place.read(f"{folder}/{MANIFEST}") != manifest:
        raise HubError(
            "Another build was published under this name.",
            where=f"{place.url}/{folder}",
            next_step="Give this build a name of its own; a published build never changes.",
        )
    sizes = {name: file.digest.size_bytes for name, file in wanted.items()}
    found = {name: size for name, size in place.files(folder).items() if name in sizes}
    if sizes != found:
        raise UploadCorrupt(
            "A published build was changed where it stands.",
            where=f"{place.url}/{folder}",
            expected=sizes,
            found=found,
            next_step=f"Remove {folder}/{MANIFEST} there and publish again: what differs is sent.",
        )


def _is_whole(place: StorageDirectory, build: str) -> bool:
    return place.exists(f"builds/{build}/{MANIFEST}")


def _manifest_of(build: str, wanted: Mapping[str, Wanted]) -> bytes:
    files = {
        name: {"size_bytes": file.digest.size_bytes, "sha256": file.digest.sha256}
        for name, file in sorted(wanted.items())
    }
    return (json.dumps({"build": build, "files": files}, indent=1) + "\n").encode()


def _point(place: StorageDirectory, build: str, manifest: bytes) -> None:
    place.replace(POINTER, (json.dumps(_pointer_to(build, manifest), indent=1) + "\n").encode())


def _pointer_to(build: str, manifest: bytes) -> dict[str, str]:
    return {"build": build, "path": f"builds/{build}", "manifest_sha256": _digest(manifest)}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
