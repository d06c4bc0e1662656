"""Lengths of conversations: the size of one, and a histogram of many."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Unit = Literal["tokens", "characters"]


@dataclass(frozen=True)
class Size:
    """The size of one conversation; its tokens are 0 if no tokenizer was given.

    `tokens` counts the input of training, of which `learned_tokens` have a label;
    `truncated_tokens` did not fit.
    """

    turns: int
    characters: int
    tokens: int = 0
    learned_tokens: int = 0
    truncated_tokens: int = 0

    def length(self, unit: Unit) -> int:
        """Return the length of the whole conversation, including what does not fit."""
        return self.characters if unit == "characters" else self.tokens + self.truncated_tokens


@dataclass(frozen=True)
class LengthClass:
    """The number of conversations with a length in [start, stop)."""

    start: int
    stop: int
    conversations: int


class Lengths:
    """A histogram with a class per half octave: 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, ..."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self._counts: Counter[int] = Counter()

    def add(self, length: int) -> None:
        """Count a conversation of this length."""
        self._counts[_class_of(length)] += 1

    def remove(self, length: int) -> None:
        """Remove a conversation that was counted."""
        self._counts[_class_of(length)] -= 1

    def merge(self, other: "Lengths") -> None:
        """Add the counts of another histogram."""
        self._counts.update(other._counts)

    def classes(self) -> Iterator[LengthClass]:
        """Yield the classes from the first to the last that is not empty."""
        used = [number for number, conversations in self._counts.items() if conversations]
        if used:
            for number in range(min(used), max(used) + 1):
                yield LengthClass(_edge(number), _edge(number + 1), self._counts[number])


def _class_of(length: int) -> int:
    if length < 2:
        return length
    octave = length.bit_length() - 1
    return 2 * octave + (length >> (octave - 1) & 1)


def _edge(number: int) -> int:
    octave, half = divmod(number, 2)
    return (1 << octave) + (half << octave >> 1) if number > 1 else number
