"""The commit call: newline-delimited JSON in, a change of a tree out.

Covers added files (inline or by LFS reference), deleted files and folders, and which
files go to LFS. Format: huggingface_hub `_commit_api._prepare_commit_payload`.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from tasks.core.demo.hub.answers import HubRefusal, entry_not_found
from tasks.core.demo.hub.blobs import BlobStore
from tasks.core.demo.hub.records import StoredFile

# The Hub's own list, shortened to what stands beside language models.
_LFS_SUFFIXES = (
    *(".bin", ".ckpt", ".gguf", ".gz", ".h5", ".model", ".msgpack", ".npy", ".npz", ".onnx"),
    *(".parquet", ".pickle", ".pkl", ".pt", ".pth", ".safetensors", ".tar", ".tgz", ".zip", ".zst"),
)
_LFS_FROM_BYTES = 10 << 20
GITATTRIBUTES = "".join(
    f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in _LFS_SUFFIXES
).encode()


def goes_to_lfs(path: str, size_bytes: int, sample: bytes) -> bool:
    """Return whether a file is kept in LFS: by name, by size, or because it is binary."""
    suffix = PurePosixPath(path).suffix.lower()
    return suffix in _LFS_SUFFIXES or size_bytes > _LFS_FROM_BYTES or b"\0" in sample


@dataclass(frozen=True)
class CommitRequest:
    """A parsed commit: what it is called and what it changes."""

    title: str
    message: str
    parent: str | None
    added: dict[str, StoredFile]
    deleted_files: tuple[str, ...]
    deleted_folders: tuple[str, ...]

    def apply(self, files: dict[str, StoredFile]) -> dict[str, StoredFile]:
        """Return the tree after this commit. Raises HubRefusal when a deleted path is not there."""
        doomed = set(self.deleted_files)
        for folder in self.deleted_folders:
            inside = {path for path in files if path.startswith(folder.rstrip("/") + "/")}
            doomed |= inside or {folder}
        for path in doomed - files.keys():
            raise entry_not_found(path)
        kept = {path: file for path, file in files.items() if path not in doomed}
        return kept | self.added


def parse_commit(body: bytes, blobs: BlobStore) -> CommitRequest:
    """Return the commit that body asks for; contents that it carries are kept in blobs.

    Raises HubRefusal for what is malformed and for an LFS file that was never uploaded.
    """
    header: dict[str, Any] = {}
    added: dict[str, StoredFile] = {}
    deleted: dict[str, list[str]] = {"deletedFile": [], "deletedFolder": []}
    for line in body.splitlines():
        try:
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header":
                header = value
            elif key == "file":
                added[_safe(value["path"])] = _inline(value["content"], blobs)
            elif key == "lfsFile":
                added[_safe(value["path"])] = _uploaded(value["oid"], blobs)
            elif key in deleted:
                deleted[key].append(value["path"])
            else:
                raise HubRefusal(400, f"Operation {key!r} is not supported by the embedded Hub")
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise HubRefusal(400, f"Malformed commit: {error}") from error
    return CommitRequest(
        title=header.get("summary", "Upload files"),
        message=header.get("description", ""),
        parent=header.get("parentCommit"),
        added=added,
        deleted_files=tuple(deleted["deletedFile"]),
        deleted_folders=tuple(deleted["deletedFolder"]),
    )


def _safe(path: str) -> str:
    parts = path.split("/")
    if path.startswith("/") or any(part in ("", ".", "..", ".git") for part in parts):
        raise HubRefusal(400, f"Invalid path: {path}")
    return path


def _inline(content: str, blobs: BlobStore) -> StoredFile:
    data = base64.b64decode(content, validate=True)
    return StoredFile.regular(data, blobs.add(data))


def _uploaded(sha256: str, blobs: BlobStore) -> StoredFile:
    path = blobs.path(sha256)
    if not path.exists():
        raise HubRefusal(400, f"LFS object {sha256} was not uploaded")
    return StoredFile.large(path.stat().st_size, sha256)
