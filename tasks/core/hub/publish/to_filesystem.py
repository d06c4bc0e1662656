"""Publish a build to a directory or bucket, for teams without a Hub.

Through fsspec: a path, `file://`, `memory://`, `s3://` and whatever else is installed. A build lies
in a folder of its own (`build_folder.py`), whose file list is written only after every byte was
read back from there; the small file `current.json` names the current build and is replaced last of
all. A reader that begins at `current.json` never meets an incomplete build, and a rollback moves no
weights. Nobody else's files are removed or overwritten. Does not cover access rights: the bucket's
own rules decide who may read it.
"""

import json

from tasks.core.errors import HubError, RevisionNotFound, UsageError
from tasks.core.hub.publish.build_folder import (
    BUILDS,
    BuildFolder,
    file_list_of,
    sha256_of_list,
    sizes_in,
)
from tasks.core.hub.publish.build_signature import proven
from tasks.core.hub.publish.files import unpublished
from tasks.core.hub.publish.names import build_of, require_build_name, tag_of
from tasks.core.hub.publish.publication import Publication
from tasks.core.hub.publish.receipt import Receipt
from tasks.core.progress import OnProgress, silent
from tasks.core.recipe import Publish
from tasks.core.signing import SIGNATURE
from tasks.core.storage.directory import StorageDirectory

POINTER = "current.json"


def publish_to_filesystem(
    publication: Publication, target: Publish, *, on_progress: OnProgress = silent
) -> Receipt:
    """Publish a build to the directory or bucket that the target names, and return the receipt.

    As `publish_to_hub`; the receipt's commit is the digest of the build's file list. Raises
    RecipeError, SecretFound, FileChanged, UploadCorrupt, HubError for another build of this name or
    files of somebody else in the way, and what opening the target raises; `current.json` is as it
    was after each of them.
    """
    url = _url_of(target)
    wanted = publication.wanted(target)
    folder = BuildFolder(_opened(url), require_build_name(publication.build))
    wanted = publication.signed(wanted, _signature_in(folder, publication))
    file_list = file_list_of(publication.build, wanted)
    kept = folder.others(wanted.keys())
    sent: tuple[str, ...] = ()
    if folder.is_complete:
        folder.require_same_build(file_list, wanted)
    else:
        sent = folder.bring(wanted, file_list, on_progress)
    arrived = _signature_in(folder, publication)
    signature = proven(arrived, wanted, publication.key, where=f"{folder.url}/{SIGNATURE}")
    _point_to(folder, file_list)
    receipt = Receipt.of(
        wanted,
        sent,
        place=folder.place.url,
        commit=sha256_of_list(file_list),
        tag=tag_of(publication.build),
        url=folder.url,
        left_out=unpublished(publication.files, wanted),
        kept=kept,
        signature=signature,
    )
    on_progress(receipt.size_bytes, receipt.size_bytes)
    return receipt


def rollback_on_filesystem(target: str, tag: str) -> Receipt:
    """Make an earlier build the current one, without moving its files.

    Raises RevisionNotFound when there is no such complete build, with those that there are.
    """
    folder = BuildFolder(_opened(target), build_of(tag))
    if not folder.is_complete:
        raise RevisionNotFound(
            "There is no such build to go back to.",
            where=folder.place.url,
            expected=", ".join(_tags(folder.place)) or "no build was published there",
            found=tag_of(folder.build),
            next_step="Name one of the tags above.",
        )
    file_list = folder.file_list()
    sizes = sizes_in(file_list)
    kept = folder.others(sizes.keys())
    _point_to(folder, file_list)
    return Receipt(
        place=folder.place.url,
        commit=sha256_of_list(file_list),
        tag=tag_of(folder.build),
        url=folder.url,
        sent_bytes=0,
        skipped_bytes=sum(sizes.values()),
        files=tuple(sorted(sizes)),
        kept=kept,
    )


def _url_of(target: Publish) -> str:
    if target.target is None:
        raise UsageError(
            "The recipe publishes to a Hub, not to a directory or bucket.",
            where="publish.repo",
            found=target.repo,
            next_step="Use publish_to_hub for it.",
        )
    return target.target


def _opened(url: str) -> StorageDirectory:
    """Return the place. Raises HubError when another program's file has the pointer's name."""
    place = StorageDirectory.open(url)
    if place.exists(POINTER) and not _is_pointer(place.read(POINTER)):
        raise HubError(
            "A file of another origin is in the place of the pointer to the build.",
            where=f"{place.url}/{POINTER}",
            next_step="Move it away, or name another directory in `publish.target`.",
        )
    return place


def _tags(place: StorageDirectory) -> list[str]:
    return [tag_of(name) for name in place.folders(BUILDS) if BuildFolder(place, name).is_complete]


def _signature_in(folder: BuildFolder, publication: Publication) -> bytes | None:
    """Return the signature in the folder; None where there is none, or none is wanted."""
    return None if publication.key is None else folder.place.find(folder.at(SIGNATURE))


def _is_pointer(content: bytes) -> bool:
    try:
        pointer = json.loads(content)
    except ValueError:
        return False
    return isinstance(pointer, dict) and pointer.keys() == {"build", "path", "manifest_sha256"}


def _point_to(folder: BuildFolder, file_list: bytes) -> None:
    pointer = {
        "build": folder.build,
        "path": folder.path,
        "manifest_sha256": sha256_of_list(file_list),
    }
    folder.place.replace(POINTER, (json.dumps(pointer, indent=1) + "\n").encode())
