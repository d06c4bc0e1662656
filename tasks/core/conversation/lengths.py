"""How long conversations are: the figures of one, and counts by length in a few classes."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Unit = Literal["tokens", "characters"]


@dataclass(frozen=True)
class Size:
    """The figures of one conversation; tokens are 0 where no tokenizer was given.

    `tokens` count what is trained on, learned or not; `truncated_tokens` did not fit.
    """

    turns: int
    characters: int
    tokens: int = 0
    learned_tokens: int = 0
    truncated_tokens: int = 0

    def length(self, unit: Unit) -> int:
        """Return how long the whole conversation is, what does not fit included."""
        return self.characters if unit == "characters" else self.tokens + self.truncated_tokens


@dataclass(frozen=True)
class LengthClass:
    """How many conversations have a length in [start, stop)."""

    start: int
    stop: int
    conversations: int


class Lengths:
    """A histogram whose classes are the half octaves: 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, ..."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self._counts: Counter[int] = Counter()

    def add(self, length: int) -> None:
        """Count a conversation of this length."""
        self._counts[_class_of(length)] += 1

    def remove(self, length: int) -> None:
        """Take back a conversation that was counted."""
        self._counts[_class_of(length)] -= 1

    def merge(self, other: "Lengths") -> None:
        """Count what another histogram has counted."""
        self._counts.update(other._counts)

    def classes(self) -> Iterator[LengthClass]:
        """Yield the classes from the shortest to the longest one that is not empty."""
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
