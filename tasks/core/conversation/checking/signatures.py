"""Signatures of 340 bytes, by which records with the same content are found.

MinHash (Broder 1997) over sequences of five words: the share of equal values in two signatures
estimates the Jaccard index of their sequences. Hashes have 32 bits, so that a vector unit computes
eight at a time; all records of a call are computed together.
"""

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from tasks.core.conversation.checking.lengths import Size
from tasks.core.conversation.preferences import Preference
from tasks.core.conversation.records import Conversation

HASHES = 128
_SHINGLE_WORDS = 5
_SHINGLES_AT_ONCE = 1 << 14  # with the buffer, 128 KiB: they stay in the L2 cache
_WORD = re.compile(r"\w+")
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]+")
_SPACES = bytes(
    code if code >= 0x80 or (character := chr(code)) == "_" or character.isalnum() else 0x20
    for code in range(0x100)
)
"""A translation table that blanks every ASCII character that is not part of a word."""

RECORD = np.dtype(
    [
        ("position", "<u8"),
        ("id", "S48"),
        ("size", "<u4", (len(fields(Size)),)),
        ("content", "<u8"),
        ("signature", "<u2", (HASHES,)),
    ]
)
_RANDOM = np.random.default_rng(0x6B61_7761_6E)
_FACTORS = _RANDOM.integers(1, 2**31, HASHES, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
_ADDENDS = _RANDOM.integers(0, 2**32, HASHES, dtype=np.uint32)
_POWERS = np.cumprod(np.full(_SHINGLE_WORDS, 0x9E37_79B9_7F4A_7C15, dtype=np.uint64))

Signed = NDArray[np.void]
"""An array of RECORD."""


def signed(records: Sequence[tuple[int, Conversation, Size]]) -> Signed:
    """Return the signature of each record, with its position and size. Ids are cut at 48 bytes.

    Preference pairs count as alike only if they are equal: one question may have many pairs, and
    two answers may differ by a word.
    """
    made = np.empty(len(records), RECORD)
    texts = []
    for row, (position, conversation, size) in zip(made, records, strict=True):
        said = [turn.text for turn in conversation.turns]
        if isinstance(conversation, Preference):
            said.append(conversation.rejected)
        content = "\x00".join([conversation.system or "", *said]).encode()
        row["position"], row["id"] = position, conversation.id.encode("utf-8", "replace")
        row["size"] = tuple(vars(size).values())
        row["content"] = int.from_bytes(blake2b(content, digest_size=8).digest(), "little")
        if isinstance(conversation, Preference):
            said = [f"{row['content']:x}"]
        texts.append("\n".join(said))  # without the system message: many records share it
    made["signature"] = signatures(texts)
    return made


def signatures(texts: Sequence[str]) -> NDArray[np.uint16]:
    """Return the signature of each text, (texts, HASHES)."""
    smallest = np.full((HASHES, len(texts)), np.iinfo(np.uint32).max, dtype=np.uint32)
    for shingles, starts, first in _pieces([_shingles(text) for text in texts]):
        here = slice(first, first + len(starts))
        permuted = np.empty_like(shingles)
        for row, factor, addend in zip(smallest, _FACTORS, _ADDENDS, strict=True):
            np.multiply(shingles, factor, out=permuted)
            np.add(permuted, addend, out=permuted)
            np.minimum(row[here], np.minimum.reduceat(permuted, starts), out=row[here])
    return (mixed(smallest.T.astype(np.uint64)) >> np.uint64(48)).astype(np.uint16)


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the values hashed by the finalizer of splitmix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return values ^ (values >> np.uint64(31))


def _pieces(
    of_texts: Sequence[NDArray[np.uint32]],
) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.intp], int]]:
    """Yield the shingles in batches, with the start of each text in it and its first text."""
    stops = np.cumsum([len(one) for one in of_texts])
    together = np.concatenate(of_texts) if of_texts else np.empty(0, dtype=np.uint32)
    for start in range(0, len(together), _SHINGLES_AT_ONCE):
        stop = min(len(together), start + _SHINGLES_AT_ONCE)
        first, last = np.searchsorted(stops, (start, stop - 1), "right").tolist()
        starts = np.concatenate(([0], stops[first:last] - start))
        yield together[start:stop], starts, first


def _shingles(text: str) -> NDArray[np.uint32]:
    """Return a hash for each sequence of five words, at least one."""
    words = list(map(zlib.crc32, _words(text))) or [0]
    hashed = np.array(words + [0] * (_SHINGLE_WORDS - len(words)), dtype=np.uint64)
    count = len(hashed) - _SHINGLE_WORDS + 1
    together = hashed[:count] * _POWERS[0]
    for place in range(1, _SHINGLE_WORDS):
        together += hashed[place : place + count] * _POWERS[place]
    return (mixed(together) >> np.uint64(32)).astype(np.uint32)


def _words(text: str) -> list[bytes]:
    r"""Return the matches of `\w+` in lower case, three times as fast for mostly ASCII text."""
    text = text.lower()
    encoded = text.encode()
    if len(encoded) > 1.25 * len(text):
        return [word.encode() for word in _WORD.findall(text)]
    return _BEYOND_ASCII.sub(_words_alone, encoded).translate(_SPACES).split()


def _words_alone(found: re.Match[bytes]) -> bytes:
    return _blanked(found[0])


@lru_cache(maxsize=1 << 12)
def _blanked(letters: bytes) -> bytes:
    return "".join(each if each.isalnum() else " " for each in letters.decode()).encode()
