"""A model from a local directory, copied so that later changes do not reach it.

The same files are taken as from the Hub. A hard link would not do: the user may change the files in
place. The copy shares its blocks with the original where the file system can (reflink).
"""

import hashlib
import os
from functools import partial
from pathlib import Path

from tasks.core.errors import NotAModel
from tasks.core.files.copies import CHUNK_BYTES, share_blocks
from tasks.core.files.digests import FileDigest
from tasks.core.files.disk_space import require_disk_space
from tasks.core.hub.download.model import WrittenFiles
from tasks.core.hub.download.model_files import choose_files
from tasks.core.keys import digest
from tasks.core.progress import OnProgress, Tally, silent
from tasks.core.system.errors import names_path
from tasks.core.system.threads import on_every_core, pause
from tasks.core.weights.companions import file_names
from tasks.core.weights.index import read_listing
from tasks.core.weights.model_check import check_model
from tasks.core.weights.tokenizer_check import require_tokenizer


def choose_from_directory(source: Path) -> tuple[str, ...]:
    """Return the files of a directory that make up the model, by path below it.

    Raises NotAModel or CorruptWeights when source holds no usable model.
    """
    if not source.is_dir():
        raise NotAModel(
            "There is no such directory.",
            where=source,
            next_step="Correct the path, or name a Hub repository.",
        )
    return choose_files(
        file_names(source), where=source, read_listing=lambda name: read_listing(source / name)
    )


def directory_identity(source: Path) -> str:
    """Return the identity of a directory's state for a stage key, without reading the files.

    Made of names, sizes and modification times of the selected files: a file that was touched is
    copied again, and later stages see by its content that nothing changed.
    """
    stats = {name: (source / name).stat() for name in choose_from_directory(source)}
    return digest({name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()})


def copy_directory(source: Path, out: Path, on_progress: OnProgress = silent) -> WrittenFiles:
    """Return the files of a model directory once all stand in out, hashed as they were written.

    Raises what `check_model` raises, and DiskFull, before the first byte.
    """
    names = choose_from_directory(source)
    check_model(source)
    require_tokenizer(source)
    total = sum((source / name).stat().st_size for name in names)
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        (out / name).unlink(missing_ok=True)
    require_disk_space(out, total)
    tally = Tally(total, on_progress)
    copies = [partial(_copy, source / name, out / name, tally) for name in names]
    return WrittenFiles(dict(zip(names, on_every_core(copies, name="copy"), strict=True)))


def _copy(source: Path, target: Path, tally: Tally) -> FileDigest:
    target.parent.mkdir(parents=True, exist_ok=True)
    content = hashlib.sha256()
    with names_path(target), source.open("rb") as original, target.open("w+b") as copy:
        shared = share_blocks(original, copy)
        while chunk := (copy if shared else original).read(CHUNK_BYTES):
            if not shared:
                copy.write(chunk)
            content.update(chunk)
            pause(0)
            tally.add(len(chunk))
        size_bytes = copy.seek(0, os.SEEK_END)
    return FileDigest(size_bytes, content.hexdigest())
