"""The element types of weight files: safetensors' names, sizes in bytes, torch's counterparts.

Types that pack several elements into a byte (F4, F6) are not supported: nothing here can split them
into pieces, so an index refuses them as unknown.
"""

import math
from typing import TYPE_CHECKING

from tasks.core.recipe import Dtype

if TYPE_CHECKING:
    import torch

_TORCH_NAMES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "BF16": "bfloat16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
}
ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
"""Bytes per element, by safetensors' name: the complete list of supported types."""

FLOATS = frozenset({"F16", "BF16", "F32", "F64"})
"""The types that can be summed and cast; eight-bit floats need scales from elsewhere."""

STORED: dict[Dtype, str] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""safetensors' names of the recipe's dtypes."""


def torch_dtype(stored: str) -> "torch.dtype":
    """Return torch's counterpart of a safetensors dtype."""
    import torch

    dtype: torch.dtype = getattr(torch, _TORCH_NAMES[stored])
    return dtype


def safetensors_dtype(dtype: "torch.dtype") -> str | None:
    """Return safetensors' name of a torch dtype, or None for an unsupported one."""
    name = str(dtype).removeprefix("torch.")
    return next((stored for stored, torch_name in _TORCH_NAMES.items() if torch_name == name), None)


def size_bytes(stored: str, shape: tuple[int, ...]) -> int:
    """Return the bytes of a tensor of this dtype and shape."""
    return ITEM_BYTES[stored] * math.prod(shape)
