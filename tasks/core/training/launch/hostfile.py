"""DeepSpeed's hostfile: which machines train, and with how many GPUs each.

Reads what DeepSpeed's launcher reads (`launcher/runner.py`, `_parse_hostfile`), and for a line that
it cannot read, reports which one it is and why.
"""

import difflib
import re
from pathlib import Path

from tasks.core.errors import RecipeError
from tasks.core.files.given import require_at_rest

_SLOTS = re.compile(r"slots=([1-9]\d*)")
_BOM = "\ufeff"
_FORM = "lines `name slots=GPUs`, such as `gpu-1 slots=8`"


def read_slots(hostfile: Path) -> dict[str, int]:
    """Return the number of GPUs of each machine. Raises RecipeError for a line that names none."""
    require_at_rest(hostfile, error=RecipeError)
    try:
        lines = hostfile.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            "The hostfile cannot be read.",
            where=hostfile,
            found=getattr(error, "strerror", None) or "it is not UTF-8 text",
            next_step="Correct finetune.hostfile.",
        ) from error
    slots: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if words := line.split("#")[0].split():
            problem = _problem(words, slots)
            if problem is not None:
                raise RecipeError(
                    "A line of the hostfile does not name a machine with its GPUs.",
                    where=f"{hostfile}, line {number}",
                    expected=_FORM,
                    found=f"{line.strip()!r}: {problem}",
                    next_step="Correct that line.",
                )
            slots[words[0]] = int(words[1].removeprefix("slots="))
    return slots


def require_slots(hostfile: Path, processes: int) -> None:
    """Raise RecipeError unless the machines have as many GPUs as there are processes.

    The global batch depends on the number of processes, and DeepSpeed starts one per slot.
    """
    slots = read_slots(hostfile)
    if sum(slots.values()) != processes:
        named = ", ".join(f"{name} {count}" for name, count in slots.items()) or "no machine"
        raise RecipeError(
            "The hostfile does not have as many GPUs as the recipe expects.",
            where=hostfile,
            expected=f"{processes} slots together, as finetune.processes says",
            found=f"{sum(slots.values())} slots: {named}",
            next_step="Set finetune.processes to the number of all slots, or correct the file.",
        )


def _problem(words: list[str], earlier: dict[str, int]) -> str | None:
    """Return what is wrong with the words of a line; None if nothing is."""
    name, *rest = words
    if name.startswith(_BOM):
        return "it begins with a byte order mark, which DeepSpeed takes as part of the name"
    if name in earlier:
        return f"{name} is already on an earlier line"
    if not rest:
        return "there is no slots=GPUs after the name"
    return None if _SLOTS.fullmatch(rest[0]) else _misspelt(rest[0])


def _misspelt(word: str) -> str:
    key, equals, _ = word.partition("=")
    if key == "slots":
        return f"{word!r} gives no number of GPUs from 1 on"
    if equals and difflib.get_close_matches(key.lower(), ["slots"], cutoff=0.6):
        return f"{key!r} is not slots"
    return f"{word!r} is not slots=GPUs"
