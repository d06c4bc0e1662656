"""What the gateway spends on a chunk of a stream, beside making each one by openai's types.

    python -m tests.benchmarks.bench_chunks

Prints microseconds a token, the best and the median of several rounds, in one process on one core.
Either way ends in the bytes that are sent.
"""

import statistics
import time
from collections.abc import Callable

from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import Choice, ChoiceDelta
from pydantic_core import to_json

from tasks.core.serving.gateway.chat_shape import ChatChunks
from tasks.core.serving.gateway.engine_client import AnswerPiece

_TOKENS = 2000
_ROUNDS = 15


def main() -> None:
    """Print the table."""
    ways: dict[str, Callable[[], list[bytes]]] = {
        "filled in": _filled_in,
        "by openai's types": _by_types,
    }
    first, second = (way() for way in ways.values())
    if len(first) != len(second):
        raise SystemExit("the two ways do not make the same chunks")
    print(f"{'a chunk':<20} {'best':>8} {'median':>8}   microseconds a token")
    for name, way in ways.items():
        spent = [_microseconds(way) for _ in range(_ROUNDS)]
        print(f"{name:<20} {min(spent):8.1f} {statistics.median(spent):8.1f}")


def _microseconds(way: Callable[[], list[bytes]]) -> float:
    began = time.perf_counter()
    way()
    return (time.perf_counter() - began) / _TOKENS * 1e6


def _filled_in() -> list[bytes]:
    chunks = ChatChunks("Kawan-Usaha", answer_id="chatcmpl-1")
    return [
        to_json(chunk)
        for number in range(_TOKENS)
        for chunk in chunks.of(0, AnswerPiece(f" {number}"))
    ]


def _by_types() -> list[bytes]:
    made = []
    for number in range(_TOKENS):
        choice = Choice(index=0, delta=ChoiceDelta(content=f" {number}"), finish_reason=None)
        chunk = ChatCompletionChunk(
            id="chatcmpl-1",
            object="chat.completion.chunk",
            created=1,
            model="Kawan-Usaha",
            choices=[choice],
        )
        made.append(to_json(chunk.model_dump(exclude_unset=True)))
    return made


if __name__ == "__main__":
    main()
