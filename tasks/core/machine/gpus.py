"""Known cards, and how a user names GPUs that are not in this machine.

The memory is what the driver reports (`nvidia-smi`, MiB), which is less than the name says where
error correction takes its share. The speeds are those of NVIDIA's data sheets, and only used for
rough times. Not covered: several kinds of cards in one machine, and NVLink bridges between two.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.core.errors import UsageError
from tasks.core.units import GB, GIB, MIB

_SPEC = re.compile(r"^\s*(?:(?P<count>\d+)\s*[x×*]\s*)?(?P<card>.+?)\s*$", re.IGNORECASE)
_MEMORY = re.compile(r"^(?P<size>\d+(?:\.\d+)?)\s*(?:GiB|GB|G)$", re.IGNORECASE)


@dataclass(frozen=True)
class GpuSpeed:
    """The most that a card does in a second.

    tflops: dense, in 16 bits with fp32 sums. memory_bytes_per_s: its own memory.
    nvlink_bytes_per_s: to the other cards of a machine where NVLink joins them all, in one
    direction; 0 where they are joined by PCIe.
    """

    tflops: float
    memory_bytes_per_s: float
    nvlink_bytes_per_s: float = 0


@dataclass(frozen=True)
class Gpu:
    """One card: its memory, its speed if known, and whether it computes in bfloat16."""

    name: str
    memory_bytes: int
    speed: GpuSpeed | None = None
    bfloat16: bool = True


_OLD = {"T4", "V100-16GB", "V100-32GB", "P100-16GB"}

_CARDS: Mapping[str, tuple[int, float, int, int]] = {
    # name: MiB, dense 16-bit TFLOPS, GB/s of its memory, GB/s of NVLink in one direction
    "P100-16GB": (16_276, 19, 732, 0),
    "V100-16GB": (16_160, 125, 900, 150),
    "V100-32GB": (32_501, 125, 900, 150),
    "T4": (15_360, 65, 320, 0),
    "RTX3060": (12_288, 25, 360, 0),
    "RTX3090": (24_576, 71, 936, 0),
    "RTX4060Ti-16GB": (16_380, 44, 288, 0),
    "RTX4080": (16_376, 98, 717, 0),
    "RTX4090": (24_564, 165, 1008, 0),
    "RTX5090": (32_607, 210, 1792, 0),
    "RTXA5000": (24_564, 111, 768, 0),
    "RTXA6000": (49_140, 155, 768, 0),
    "RTX6000Ada": (49_140, 364, 960, 0),
    "A10": (23_028, 125, 600, 0),
    "A10G": (23_028, 70, 600, 0),
    "A30": (24_576, 165, 933, 0),
    "A40": (46_068, 150, 696, 0),
    "L4": (23_034, 121, 300, 0),
    "L40S": (46_068, 362, 864, 0),
    "A100-40GB": (40_960, 312, 1555, 300),
    "A100-80GB": (81_920, 312, 2039, 300),
    "H100": (81_559, 989, 3350, 450),
    "H200": (143_771, 989, 4800, 450),
    "B200": (183_359, 2250, 8000, 900),
}


def known_cards() -> list[str]:
    """Return the names of cards that parse_gpus accepts."""
    return list(_CARDS)


def known_card(name: str) -> Gpu | None:
    """Return the card of this name, in whichever spelling, or None.

    Accepts the driver's names as well: "NVIDIA GeForce RTX 4090", "NVIDIA A100-SXM4-80GB". A card
    that is sold with NVLink is taken to have it, unless its name says PCIe.
    """
    wanted = _plain(name)
    for card, (mib, tflops, memory_gb_per_s, nvlink_gb_per_s) in _CARDS.items():
        if _plain(card) == wanted:
            nvlink = 0 if "pcie" in name.lower() else nvlink_gb_per_s
            speed = GpuSpeed(tflops, memory_gb_per_s * GB, nvlink * GB)
            return Gpu(card, mib * MIB, speed, bfloat16=card not in _OLD)
    return None


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """Return the GPUs that "2xL4", "1xRTX4090", "8xH100", "L4" or "2x24GiB" names.

    A size in GB is read as GiB, as cards are sold. Raises UsageError for a count of zero and for an
    unknown name, suggesting the closest known ones.
    """
    spec = _SPEC.match(text)
    count = int(spec["count"] or 1) if spec else 0
    if spec is None or count < 1:
        raise UsageError(
            "This is not a description of GPUs.",
            where=f"--gpus {text}",
            expected="a count and a card or a size, such as 2xL4 or 2x24GiB",
            found=repr(text),
        )
    memory = _MEMORY.match(spec["card"])
    if memory:
        size = float(memory["size"])
        return (Gpu(f"{size:g} GiB card", int(size * GIB)),) * count
    card = known_card(spec["card"])
    if card is None:
        near = difflib.get_close_matches(
            _plain(spec["card"]), [_plain(name) for name in _CARDS], n=3, cutoff=0.4
        )
        names = [name for name in _CARDS if _plain(name) in near] or known_cards()
        raise UsageError(
            "This card is not known.",
            where=f"--gpus {text}",
            expected=f"one of: {', '.join(names)}",
            found=spec["card"],
            next_step=f"Give its memory instead, for example --gpus {count}x24GiB.",
        )
    return (card,) * count


def _plain(name: str) -> str:
    """Return a card's name in lower case, without maker, form factor and spaces."""
    words = re.sub(r"(?i)\b(nvidia|geforce|tesla|generation|sxm\d?|pcie|hbm3e?)\b", "", name)
    plain = re.sub(r"[^a-z0-9]", "", words.lower())
    return {"a100": "a10040gb", "h10080gb": "h100", "v100": "v10016gb"}.get(plain, plain)
