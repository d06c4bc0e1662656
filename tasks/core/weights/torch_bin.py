"""Where the tensors of a `.bin` checkpoint lie in its file, without running code in it.

Covers the zip files that `torch.save` writes since torch 1.6. The pickle inside is interpreted by
torch's restricted unpickler on the meta device: no code of the file runs, no weight is read. The
older format (a bare pickle) is refused, because it cannot be read in place.

The invariant: each offset is the start of an uncompressed record in the zip's own directory, so a
forged pickle cannot point anywhere else.
"""

import pickle
import struct
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import NoReturn

from tasks.core.errors import CorruptWeights, NotAModel, UnsafeWeights
from tasks.core.system.errors import is_of_the_machine, names_path
from tasks.core.weights.dtypes import safetensors_dtype
from tasks.core.weights.safetensors_header import HeaderEntry, span_elements

_ZIP_MAGIC = b"PK\x03\x04"
_PICKLE_MAGIC = b"\x80"
_LOCAL_HEADER = struct.Struct("<26xHH")  # APPNOTE.TXT 4.3.7: lengths of name and extra field
ODD_ZIP = (zipfile.BadZipFile, struct.error, NotImplementedError, ValueError, OverflowError)
"""What zipfile raises for a malformed directory: a bad name, version or offset."""
_AGAIN = "Download or save this file again."


def read_bin(path: Path) -> list[HeaderEntry]:
    """Return the tensors of a `.bin` file in the order of their bytes; tied ones share a range.

    Raises UnsafeWeights for a pickle that asks for code, CorruptWeights for a broken file,
    NotAModel for the format before torch 1.6.
    """
    _require_zip(path)
    records = _records(path)
    state_dict = load_on_meta(path)
    if not isinstance(state_dict, dict):
        _corrupt(path, "The checkpoint is not a dictionary of tensors.", type(state_dict).__name__)
    entries = [_entry(path, name, value, records) for name, value in state_dict.items()]
    return sorted(entries, key=lambda entry: (entry.offset, entry.name))


def _require_zip(path: Path) -> None:
    with names_path(path), path.open("rb") as file:
        magic = file.read(len(_ZIP_MAGIC))
    if magic.startswith(_PICKLE_MAGIC):
        raise NotAModel(
            "The file is a bare pickle (the format before torch 1.6): it cannot be read in place.",
            where=path,
            expected="a zip file of torch.save, or safetensors",
            next_step="Load it with torch.load(..., weights_only=True) and save it as safetensors.",
        )
    if magic != _ZIP_MAGIC:
        _corrupt(path, "The file is not a checkpoint of torch.save.", repr(magic))


def _records(path: Path) -> dict[int, int]:
    """Return the offset and the size of the bytes of each record of the zip."""
    try:
        with names_path(path), zipfile.ZipFile(path) as archive, path.open("rb") as file:
            records = {}
            for info in archive.infolist():
                if info.compress_type != zipfile.ZIP_STORED:
                    _corrupt(path, "A record of the checkpoint is compressed.", info.filename)
                file.seek(info.header_offset)
                name_bytes, extra_bytes = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
                start = info.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
                records[start] = info.file_size
            return records
    except (OSError, *ODD_ZIP) as error:
        if is_of_the_machine(error):
            raise
        raise CorruptWeights(
            "The checkpoint is truncated or not a valid zip file.",
            where=path,
            found=error,
            next_step=_AGAIN,
        ) from error


class _Inert:
    """Stands in for a class that a file may name: accepts any state and does nothing."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def load_on_meta(path: Path, names: Collection[str] = ()) -> object:
    """Return the contents of a file of torch.save, tensors without their data; no code is run.

    names are further classes that it may contain, as `module.Class`; they are not imported. Raises
    UnsafeWeights when it needs anything else, CorruptWeights when it cannot be read.
    """
    import torch

    try:
        with torch.serialization.safe_globals([(_Inert, name) for name in names]):
            return torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise UnsafeWeights(
            "The checkpoint would run code when loaded; none of it was run.",
            where=path,
            found=_reason(error),
            next_step="Do not use this file. Look for a safetensors version of the model.",
        ) from error
    except (RuntimeError, ValueError, KeyError, AssertionError, EOFError, TypeError) as error:
        raise CorruptWeights(
            "The checkpoint cannot be read.", where=path, found=_reason(error), next_step=_AGAIN
        ) from error


def _reason(error: Exception) -> str:
    """Return the line of torch's message that names the cause, not its advice to load unsafely."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next(
        (line for line in lines[1:] if "GLOBAL" in line), lines[0] if lines else repr(error)
    )


def _entry(path: Path, name: object, value: object, records: dict[int, int]) -> HeaderEntry:
    import torch

    place = f"{path}: {name}"
    if not isinstance(name, str) or not isinstance(value, torch.Tensor):
        _corrupt(
            place, "The checkpoint holds something other than named tensors.", type(value).__name__
        )
    dtype = safetensors_dtype(value.dtype)
    if dtype is None or value.layout != torch.strided:
        _corrupt(
            place, "A tensor has an unknown dtype or layout.", f"{value.dtype}, {value.layout}"
        )
    storage = value.untyped_storage()
    # torch.load on "meta" sets this attribute: the storage's place in its file, as documented.
    start: int = getattr(storage, "_checkpoint_offset", -1)
    skipped = int(value.storage_offset()) * value.element_size()
    nbytes = value.numel() * value.element_size()
    stride = None if value.is_contiguous() else tuple(value.stride())
    spanned = span_elements(value.shape, stride) * value.element_size()
    if nbytes and (
        records.get(start, -1) < storage.nbytes() or skipped + spanned > storage.nbytes()
    ):
        _corrupt(place, "A tensor lies outside the records of the checkpoint.", start)
    return HeaderEntry(name, dtype, tuple(value.shape), start + skipped, nbytes, stride)


def _corrupt(where: object, what: str, found: object) -> NoReturn:
    raise CorruptWeights(what, where=where, found=found, next_step=_AGAIN)
