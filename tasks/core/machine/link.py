"""How fast weights come from this machine's memory to its GPU, measured for a moment and kept.

What decides is the slot as much as the card: eight lanes or sixteen, PCIe 3 or 5, a virtual
machine's share. So it is measured once a machine, in a process of its own, and kept under the home
directory by the GPUs and torch's version. Where it cannot be measured, plans take a common rate.
"""

import hashlib
import importlib.metadata
import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveFloat

from tasks.core.machine.speed import ask, keep, kept

_log = logging.getLogger(__name__)

VERSION = 1
_PROBE = "tasks.core.machine.link_probe"


class LinkSpeed(BaseModel):
    """Bytes a second from the host to the first GPU: from page-locked memory, and from ordinary."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pinned_bytes_per_s: PositiveFloat
    pageable_bytes_per_s: PositiveFloat


def kept_link(home: Path, gpus: Sequence[str]) -> LinkSpeed | None:
    """Return what was measured on this machine, whose GPUs bear these ids; nothing is started."""
    path = _record(home, gpus)
    return None if path is None else kept(path, LinkSpeed)


def measured_link(home: Path, gpus: Sequence[str]) -> LinkSpeed | None:
    """Return the same, measured now if it was not yet; None where that is impossible.

    To be called only while nobody else computes on the GPU: it takes half a gigabyte there, and
    what moves meanwhile would count.
    """
    path = _record(home, gpus)
    if path is None:
        return None
    if (known := kept(path, LinkSpeed)) is not None:
        return known
    if (link := ask(_PROBE, LinkSpeed, {})) is not None:
        keep(path, link)
    return link


def _record(home: Path, gpus: Sequence[str]) -> Path | None:
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        _log.info("the link to the GPU is not measured: torch is not installed")
        return None
    digest = hashlib.sha256(repr([VERSION, *gpus, torch]).encode()).hexdigest()
    return home / "machine" / f"link-{digest[:16]}.json"
