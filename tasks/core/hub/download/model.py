"""A model from the Hub into a directory: selected, complete, verified, and only once on the disk.

Covers Hub repositories at a commit; `local_copy.py` covers directories. Files land in the given
directory only, never in huggingface_hub's cache. The directory may hold what a killed attempt left:
complete files are verified instead of downloaded, parts are resumed.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.hf_api import RepoSibling

from tasks.core.errors import HubError, UnsafeName
from tasks.core.files.digests import FileDigest
from tasks.core.files.disk_space import require_disk_space
from tasks.core.files.foreign import JsonObject, leaves
from tasks.core.files.temporary import scratch_directory
from tasks.core.hub.client import ASK_TIMEOUT_S, api, endpoint, usable_token
from tasks.core.hub.download.announced import HubFile
from tasks.core.hub.download.file import (
    NOBODY,
    DownloadSession,
    FileDownload,
    Listener,
    Patience,
    part_of,
)
from tasks.core.hub.download.model_files import choose_files
from tasks.core.hub.errors import translated
from tasks.core.progress import OnProgress, Tally, silent
from tasks.core.system.threads import run_all
from tasks.core.weights.index import read_listing
from tasks.core.weights.weight_files import SUFFIXES

_FILES_AT_ONCE = 4
_LARGE_BYTES = 1 << 20


@dataclass(frozen=True)
class ResolvedModel:
    """A model on the Hub at one commit, and the files selected from it."""

    repo: str
    commit: str
    files: tuple[HubFile, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the selected files."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True)
class WrittenFiles:
    """What was written, by path below the directory."""

    files: Mapping[str, FileDigest]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files.values())


def resolve_model(repo: str, revision: str, token: str | None = None) -> ResolvedModel:
    """Return the commit that a revision names now and the files to take from it.

    One request; a second for a gated repository, whose files may be closed although its listing is
    open, and for an index file that says which of several shards count. Raises RepositoryNotFound,
    RevisionNotFound, GatedRepository, WrongToken, HubUnavailable, and what `choose_files` raises
    when the repository holds no usable model.
    """
    where = f"{endpoint()}/{repo} at {revision}"
    with translated(repo, revision):
        hub = api(token)
        info = hub.model_info(repo, revision=revision, files_metadata=True, timeout=ASK_TIMEOUT_S)
        if info.gated:
            hub.auth_check(repo)
        if info.sha is None:
            raise HubError("The Hub names no commit.", where=repo, found=revision)
        commit = str(info.sha)
        siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
        require_inside(siblings, where)
        chosen = choose_files(
            siblings,
            where=where,
            read_listing=lambda name: _listing(hub, repo, commit, name, siblings),
        )
    return ResolvedModel(repo, commit, tuple(_announced(siblings[name]) for name in chosen))


def require_inside(names: Iterable[str], where: str) -> None:
    """Raise UnsafeName for a listing with any name that leads out of the repository."""
    for name in names:
        if leaves(name):
            raise UnsafeName(
                "The Hub lists a file outside its repository; nothing was downloaded.",
                where=where,
                found=repr(name),
                next_step="Do not use this repository, and check HF_ENDPOINT.",
            )


def _listing(hub: HfApi, repo: str, commit: str, name: str, present: Collection[str]) -> JsonObject:
    """Return an index file, without a request where it can only name all shards present."""
    suffix = Path(name.removesuffix(".index.json")).suffix
    shards = sorted(file for file in present if file.endswith(suffix))
    stem = name.split(".", maxsplit=1)[0]
    count = len(shards)
    if shards and shards == [
        f"{stem}-{number:05}-of-{count:05}{suffix}" for number in range(1, count + 1)
    ]:
        return {"weight_map": {shard: shard for shard in shards}}
    with scratch_directory("hub") as cache:
        return read_listing(Path(hub.hf_hub_download(repo, name, revision=commit, cache_dir=cache)))


def _announced(sibling: RepoSibling) -> HubFile:
    if sibling.size is None or sibling.blob_id is None:
        raise HubError("The Hub lists a file without its size or id.", where=sibling.rfilename)
    sha256 = sibling.lfs.sha256 if sibling.lfs else None
    return HubFile(sibling.rfilename, sibling.size, sha256, sibling.blob_id)


def download_model(
    resolved: ResolvedModel,
    out: Path,
    token: str | None = None,
    on_progress: OnProgress = silent,
    *,
    patience: Patience | None = None,
    listener: Listener = NOBODY,
) -> WrittenFiles:
    """Return the files of resolved once all stand in out, each checked against the Hub's metadata.

    Raises DiskFull before the first byte without room for what is missing, HubUnavailable when the
    transfer breaks and cannot be resumed, DownloadCorrupt, and what `resolve_model` raises.
    Whatever is raised, out keeps what has arrived. Large weights come last, so that everything else
    about the model is known early; listener hears of each file's bytes as they arrive.
    """
    out.mkdir(parents=True, exist_ok=True)
    require_disk_space(out, missing_bytes(resolved, out))
    tally = Tally(resolved.size_bytes, on_progress)
    stop = Event()
    with translated(resolved.repo, resolved.commit):
        session = DownloadSession(
            out, authorization(token), tally.add, stop, patience or Patience(), listener
        )
        files = sorted(resolved.files, key=is_large)
        digests = run_all(
            [FileDownload(file, file_url(resolved, file), session).run for file in files],
            threads=_FILES_AT_ONCE,
            name="download",
            stop=stop.set,
        )
        names = (file.path for file in files)
        return WrittenFiles(dict(zip(names, digests, strict=True)))


def is_large(file: HubFile) -> bool:
    """Return whether the file holds weights, and more than is downloaded to read a header."""
    return file.path.endswith(SUFFIXES) and file.size_bytes > _LARGE_BYTES


def authorization(token: str | None = None) -> dict[str, str]:
    """Return the headers that carry the usable token, none without one."""
    sent = usable_token(token)
    return {"Authorization": f"Bearer {sent}"} if sent else {}


def file_url(resolved: ResolvedModel, file: HubFile) -> str:
    """Return the address of a file of the model."""
    return hf_hub_url(resolved.repo, file.path, revision=resolved.commit, endpoint=endpoint())


def missing_bytes(resolved: ResolvedModel, out: Path) -> int:
    """Return how many bytes of the selected files are not in out yet."""
    return sum(_missing_bytes(file, out) for file in resolved.files)


def _missing_bytes(file: HubFile, out: Path) -> int:
    target = out / file.path
    present = _size_bytes(target) + _size_bytes(part_of(target))
    return max(0, file.size_bytes - present)


def _size_bytes(path: Path) -> int:
    """Return the size of a file, 0 without one: another thread may be writing and renaming it."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
