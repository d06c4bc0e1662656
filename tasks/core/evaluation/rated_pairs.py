"""Pairs of answers rated by people, to measure a judge against.

The file has one JSON object per line: `id`, `conversations` (FastChat's turns, up to the question),
`chosen` and `rejected`. Which of the two plays `before` is drawn at random, so that a judge that
always prefers the same side agrees only by chance.
"""

import hashlib
import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.core.conversation.reading.json_values import values
from tasks.core.conversation.records import BadRecord
from tasks.core.errors import DataError
from tasks.core.evaluation.judgement import Winner


@dataclass(frozen=True)
class RatedPair:
    """A pair of answers, and the one that people prefer."""

    id: str
    prompt: str
    before: str
    after: str
    preferred: Winner


class _Turn(BaseModel):
    speaker: str = Field(alias="from")
    value: str


class _Record(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    id: str
    conversations: list[_Turn] = Field(min_length=1)
    chosen: str
    rejected: str


def choose_rated(path: Path, count: int, *, seed: int) -> tuple[list[RatedPair], int]:
    """Return up to count pairs of the file, drawn by the seed, and how many are left out.

    Raises DataError for a file that cannot be read, and for a line that is not such a pair.
    """
    total = 0

    def numbered() -> Iterator[tuple[str, RatedPair]]:
        nonlocal total
        for total, record in enumerate(_records(path), start=1):
            drawn = hashlib.sha256(f"{seed}\0{record.id}\0{total}".encode()).hexdigest()
            yield drawn, _pair(record, swapped=int(drawn[-1], 16) % 2 == 1)

    chosen = heapq.nsmallest(count, numbered(), key=lambda drawn: drawn[0])
    return [pair for _, pair in chosen], total - len(chosen)


def _pair(record: _Record, *, swapped: bool) -> RatedPair:
    prompt = "\n\n".join(f"{turn.speaker}: {turn.value}" for turn in record.conversations)
    if swapped:
        return RatedPair(record.id, prompt, record.chosen, record.rejected, "before")
    return RatedPair(record.id, prompt, record.rejected, record.chosen, "after")


def _records(path: Path) -> Iterator[_Record]:
    for position, value in values(path, "rated pairs"):
        if isinstance(value, BadRecord):
            raise _wrong(path, position, value.reason)
        try:
            yield _Record.model_validate(value)
        except ValidationError as error:
            fault = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, fault["loc"]))
            raise _wrong(path, position, f"{where}: {fault['msg']}".lstrip(": ")) from error


def _wrong(path: Path, position: int, found: str) -> DataError:
    return DataError(
        "The rated pairs cannot be read.",
        where=f"{path}, record {position}",
        expected='{"id": …, "conversations": […], "chosen": …, "rejected": …}, one per line',
        found=found,
        next_step="Set evaluate.judge.ratings to the preferences.jsonl of a reviewed set, or "
        "remove it.",
    )
