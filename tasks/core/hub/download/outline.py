"""A model before its weights have arrived: every small file, and the header of each large one.

Code that reads headers and configurations can read an outline in place of the model. The weight
files have their full size and are sparse but for the header. Of a `.bin` file, which is a zip, the
header is the directory at the end, the pickle at the beginning, and before each tensor a few bytes
with its length, which are not downloaded but computed from the directory.

The invariant: values are never read from an outline, and what was read from it is compared with
the whole file before it counts (`weights.ahead`).
"""

import zipfile
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import httpx2
from huggingface_hub import get_session, hf_raise_for_status

from tasks.core.errors import HubError
from tasks.core.files.copies import clone_or_copy
from tasks.core.hub.client import TIMEOUT_S
from tasks.core.hub.download.announced import HubFile
from tasks.core.hub.download.incoming import IncomingSource
from tasks.core.hub.download.model import ResolvedModel, authorization, file_url, is_large
from tasks.core.hub.errors import translated
from tasks.core.system.errors import names_path
from tasks.core.weights.safetensors_header import LENGTH_BYTES, MAX_HEADER_BYTES
from tasks.core.weights.torch_bin import ODD_ZIP

_HEAD_BYTES = 1 << 18
_LOCAL_MAGIC = b"PK\x03\x04"
_LOCAL_BYTES = 30
_ALIGNMENT = 64
"""Where the bytes of a record begin in a file of torch.save (`getPadding`, inline_container.cc)."""
_DESCRIPTORS_BYTES = (0, 16, 24)
"""What may follow them (APPNOTE.TXT 4.3.9)."""


def outline(incoming: IncomingSource, into: Path) -> Path:
    """Return a directory with the source's outline: `into`, or the artifact once there is one.

    Raises what `translated` raises, OSError, and HubError for a Hub that sends no ranges or a
    `.bin` file of an unknown layout.
    """
    if incoming.artifact is not None:
        return incoming.artifact.path
    model = incoming.pinned.model()
    with translated(model.repo, model.commit):
        for file in model.files:
            target = into / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if is_large(file):
                _write_header(model, file, target)
            else:
                _copy(incoming, file.path, target)
    return into


def _copy(incoming: IncomingSource, name: str, target: Path) -> None:
    for place in incoming.places(name):
        with suppress(FileNotFoundError):  # moved meanwhile from one place to the next
            clone_or_copy(place, target)
            return
    raise HubError("A file that was downloaded is gone.", where=incoming.places(name)[0])


def _write_header(model: ResolvedModel, file: HubFile, target: Path) -> None:
    head = _range(model, file, 0, min(_HEAD_BYTES, file.size_bytes))
    with names_path(target), target.open("wb") as holes:
        holes.truncate(file.size_bytes)
        holes.write(head)
        if file.path.endswith(".safetensors"):
            length = LENGTH_BYTES + int.from_bytes(head[:LENGTH_BYTES], "little")
            end = min(length, MAX_HEADER_BYTES, file.size_bytes)
            if end > len(head):
                holes.write(_range(model, file, len(head), end))
            return
        tail = max(len(head), file.size_bytes - _HEAD_BYTES)
        if tail < file.size_bytes:
            holes.seek(tail)
            holes.write(_range(model, file, tail, file.size_bytes))
    _write_local_headers(target)


def _range(model: ResolvedModel, file: HubFile, start: int, stop: int) -> bytes:
    headers = {
        **authorization(),
        "Accept-Encoding": "identity",
        "Range": f"bytes={start}-{stop - 1}",
    }
    url = file_url(model, file)
    with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_S) as response:
        hf_raise_for_status(response)
        if response.status_code != httpx2.codes.PARTIAL_CONTENT:
            raise HubError("The Hub does not answer range requests.", where=url)
        return bytes(response.read())


def _write_local_headers(path: Path) -> None:
    """Write the local header of each record of torch.save's zip where it was not downloaded."""
    try:
        _write_missing(path)
    except ODD_ZIP as error:  # a gap that no header can bridge among them
        raise HubError(
            "The checkpoint is laid out otherwise than torch.save does.", where=path, found=error
        ) from error


def _write_missing(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        records = sorted(archive.infolist(), key=lambda record: record.header_offset)
        ends = [*(record.header_offset for record in records), archive.start_dir]
    with names_path(path), path.open("r+b") as file:
        for record, (begin, end) in zip(records, pairwise(ends), strict=True):
            file.seek(begin)
            if file.read(len(_LOCAL_MAGIC)) == _LOCAL_MAGIC:
                continue
            name = record.orig_filename.encode()
            start = (end - record.file_size) // _ALIGNMENT * _ALIGNMENT
            extra = start - begin - _LOCAL_BYTES - len(name)
            if extra < 0 or end - record.file_size - start not in _DESCRIPTORS_BYTES:
                raise HubError("The checkpoint is laid out otherwise than torch.save does.")
            file.seek(begin)
            lengths = len(name).to_bytes(2, "little") + extra.to_bytes(2, "little")
            file.write(_LOCAL_MAGIC + bytes(22) + lengths + name)
