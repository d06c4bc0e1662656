"""A new model directory around the weight files of another one.

Weight files are shared: where the file system can link, none of their bytes is read or written. The
other files are copies. The invariant: nobody can change a shared file in place. So a hard link,
which is one file under two names, is made only to a read-only file (the store's artifacts are); a
writable file is reflinked, or copied where the file system has no reflinks.
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from transformers import LlamaConfig

from tasks.core.architecture.directory import ModelDirectory
from tasks.core.errors import NotAModel, UsageError
from tasks.core.files.copies import LinkMethod, clone_or_copy, link_or_copy
from tasks.core.files.disk_space import require_disk_space
from tasks.core.files.foreign import read_json_object
from tasks.core.files.output import empty_directory
from tasks.core.progress import quantity

logger = logging.getLogger(__name__)

_METHODS = {"hardlink": "hard links", "reflink": "reflinks", "copy": "copied"}
_WRITABLE = 0o222


@dataclass(frozen=True)
class SharedFile:
    """A file with the same bytes as its source, so that its checksum is already known."""

    name: str
    source: Path
    size_bytes: int
    method: LinkMethod


@dataclass(frozen=True)
class WrittenDirectory:
    """A new model directory: its shared weight files, and the names of its own files."""

    path: Path
    shared: tuple[SharedFile, ...]
    own: tuple[str, ...]

    @property
    def shared_bytes(self) -> int:
        """The bytes of the weight files."""
        return sum(file.size_bytes for file in self.shared)

    @property
    def own_bytes(self) -> int:
        """The bytes of all other files."""
        return sum((self.path / name).stat().st_size for name in self.own)


def write_around(
    source: ModelDirectory, out: Path, config: LlamaConfig, code: tuple[Path, ...] = ()
) -> WrittenDirectory:
    """Fill the existing directory `out` with source's weights and tokenizer and this configuration.

    Leftovers of an earlier attempt in `out` are removed first. Raises UsageError when the two
    directories are the same or one contains the other, NotAModel without weights or tokenizer,
    DiskFull when a copy is needed and there is no room.
    """
    _require_apart(source.path, out)
    weights, companions = source.weight_files(), source.companion_files()
    _require_room_for_copies(list(weights.values()), out)
    empty_directory(out)  # writing through a leftover link would change its target
    shared = tuple(_share(name, path, out / name) for name, path in weights.items())
    for name, path in companions.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, out / name)
    for path in code:
        shutil.copyfile(path, out / path.name)
    (out / "config.json").write_text(config.to_json_string(), encoding="utf-8")
    _log(shared)
    return WrittenDirectory(
        out, shared, ("config.json", *(path.name for path in code), *companions)
    )


def _share(name: str, path: Path, target: Path) -> SharedFile:
    source = path.resolve()  # a link to a symbolic link would share the name, not the bytes
    writable = source.stat().st_mode & _WRITABLE
    target.parent.mkdir(parents=True, exist_ok=True)
    method = clone_or_copy(source, target) if writable else link_or_copy(source, target)
    return SharedFile(name, path, source.stat().st_size, method)


def _log(shared: tuple[SharedFile, ...]) -> None:
    for method in sorted({file.method for file in shared}):
        files = [file for file in shared if file.method == method]
        size = sum(file.size_bytes for file in files)
        logger.info("%s of weights: %s", quantity(size), _METHODS[method])
    if any(file.method == "copy" for file in shared):
        logger.warning(
            "weight files were copied: only read-only files on the same file system are linked "
            "(`chmod a-w` on the source's weight files makes them so)"
        )


def _require_apart(source: Path, out: Path) -> None:
    first, second = source.resolve(), out.resolve()
    if first == second or first in second.parents or second in first.parents:
        raise UsageError(
            "The output directory must lie outside the model that it is made from.",
            where=out,
            found=source,
            next_step="Name another output directory.",
        )


def _require_room_for_copies(weights: list[Path], out: Path) -> None:
    device = out.stat().st_dev
    stats = [path.stat() for path in weights]
    copied = [s.st_size for s in stats if s.st_mode & _WRITABLE or s.st_dev != device]
    require_disk_space(out, sum(copied))


def require_no_tokenizer_code(source: ModelDirectory) -> None:
    """Raise NotAModel when the tokenizer brings its own code, which would not be copied."""
    path = source.path / "tokenizer_config.json"
    if path.is_file() and "auto_map" in read_json_object(path):
        raise NotAModel(
            "The tokenizer brings its own code.",
            where=path,
            found="auto_map",
            next_step="Use a model with one of transformers' own tokenizers.",
        )
