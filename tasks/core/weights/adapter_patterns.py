"""The patterns in adapter_config.json that name modules, matched as PEFT matches them.

The patterns are somebody else's: one that could take unbounded time or memory is refused, and
matching has a time limit. Written after peft/tuners/tuners_utils.py and peft/utils/other.py
(0.21.2).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import regex

from tasks.core.errors import AdapterMismatch
from tasks.core.weights.companion_kinds import ADAPTER_CONFIG

_UNBOUNDED = re.compile(r"(?<!\\)\)[*+{]|\{\d*,?\d{4,}")
"""What makes matching take unbounded time or memory: repeated groups."""
_MATCH_S = 60.0


def require_pattern(path: Path, field: str, written: str, pattern: str) -> None:
    """Raise AdapterMismatch unless a pattern is a regular expression that is safe to match.

    written is what the field holds, pattern what PEFT makes of it.
    """
    if _UNBOUNDED.search(written):
        raise AdapterMismatch(
            f"A pattern in {field} may take unbounded time to match.",
            where=f"{path}: {field}",
            expected="no repeated groups, and no repetition counts of 1000 or more",
            found=repr(written[:200]),
            next_step=f"Simplify it in {ADAPTER_CONFIG}.",
        )
    try:
        re.compile(pattern)
    except re.error as error:
        raise AdapterMismatch(
            f"A name in {field} is not a valid regular expression, which is how PEFT reads it.",
            where=f"{path}: {field}",
            expected="a module's name, or a regular expression",
            found=f"{written!r}: {error}",
            next_step=f"Correct {field} in {ADAPTER_CONFIG}.",
        ) from error


def match(pattern: str, module: str) -> "regex.Match[str] | None":
    """Return what `re.match` does, within a time that no honest pattern needs.

    Raises AdapterMismatch beyond it: twenty `.*` in a row take years for one name.
    """
    try:
        return regex.match(pattern, module, timeout=_MATCH_S)
    except TimeoutError as error:
        raise AdapterMismatch(
            "A pattern in the adapter's configuration takes too long to match.",
            where=module,
            expected="a module's name, or a simple regular expression",
            found=repr(pattern[:200]),
            next_step=f"Simplify it in {ADAPTER_CONFIG}.",
        ) from error


def within(name: str) -> str:
    """Return the pattern of a module by this name and of every module inside it."""
    return rf"(^|.*\.){name}($|\..*)"


def in_layer(name: str) -> str:
    """Return the pattern of modules in a numbered layer of a list by this name."""
    return rf"(?:^|.*?\.)(?:{name})\.(\d+)\."


def ending_with(key: str) -> str:
    """Return the pattern of modules whose path ends with a key of rank_pattern."""
    return rf"(.*\.)?({key})$"


def value_for(pattern: Mapping[str, float], module: str, default: float) -> float:
    """Return the value of the first pattern that matches, as peft.utils.other.get_pattern_key."""
    matching = (value for key, value in pattern.items() if match(ending_with(key), module))
    return next(matching, default)


def has_ending(name: str, endings: Sequence[str]) -> bool:
    """Return whether a dotted name is one of the endings, or ends with one."""
    return any(name == ending or name.endswith(f".{ending}") for ending in endings)
