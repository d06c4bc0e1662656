"""The entries of a folder at a commit, in the form that the Hub lists them."""

from collections.abc import Iterable, Sequence
from typing import Any

from tasks.core.demo.hub.answers import entry_not_found
from tasks.core.demo.hub.records import Commit, StoredFile, record_id

TreeEntry = dict[str, Any]
"""One file or directory as JSON: type, path, size, oid, and for LFS files `lfs`."""


def folder_entries(commit: Commit, folder: str, *, recursive: bool) -> list[TreeEntry]:
    """Return what stands in a folder of a commit, by path; "" is the top.

    Raises HubRefusal when there is no such folder.
    """
    prefix = f"{folder.strip('/')}/" if folder else ""
    inside = {path: file for path, file in commit.files.items() if path.startswith(prefix)}
    if not inside and folder:
        raise entry_not_found(folder)
    entries: dict[str, TreeEntry] = {}
    for path, file in inside.items():
        parts = path.removeprefix(prefix).split("/")
        for depth in range(1, len(parts)):
            name = prefix + "/".join(parts[:depth])
            if depth == 1 or recursive:
                entries[name] = {"type": "directory", "path": name, "size": 0, "oid": ""}
        if len(parts) == 1 or recursive:
            entries[path] = _entry(path, file)
    for name, entry in entries.items():
        if entry["type"] == "directory":
            below = {path: file for path, file in inside.items() if path.startswith(f"{name}/")}
            entry["oid"] = record_id(below)
    return [entries[name] for name in sorted(entries)]


def _entry(path: str, file: StoredFile) -> TreeEntry:
    entry = {"type": "file", "path": path, "size": file.size_bytes, "oid": file.blob_id}
    if not file.lfs:
        return entry
    lfs = {"oid": file.sha256, "size": file.size_bytes, "pointerSize": file.pointer_bytes}
    return entry | {"lfs": lfs}


def with_last_commit(entries: Sequence[TreeEntry], history: Iterable[Commit]) -> list[TreeEntry]:
    """Return the entries, each with the newest commit that changed it."""
    last: dict[str, Commit] = {}
    unchanged = {entry["path"]: entry["oid"] for entry in entries}
    for commit in history:
        ids = {entry["path"]: entry["oid"] for entry in folder_entries(commit, "", recursive=True)}
        unchanged = {path: oid for path, oid in unchanged.items() if ids.get(path) == oid}
        last.update(dict.fromkeys(unchanged, commit))
        if not unchanged:
            break
    return [entry | {"lastCommit": _brief(last[entry["path"]])} for entry in entries]


def _brief(commit: Commit) -> dict[str, str]:
    return {"id": commit.id, "title": commit.title, "date": commit.date}
