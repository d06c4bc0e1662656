"""What a conversation is about, by the words of its questions: cheap, and the same each time."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.core.conversation.reading.json_values import values
from tasks.core.conversation.records import Conversation, parse_record
from tasks.core.errors import DataError
from tasks.core.files.given import read_given_text
from tasks.core.files.yaml_text import NotYaml, read_yaml
from tasks.core.home import RESOURCES

TOPICS = RESOURCES / "data" / "topics.yaml"
OTHER = "lain"
_WORD_LETTERS = 4
"""A shorter word counts by itself only: `kur` is in `kurang`."""

_FIRST_COUNTS = 3


@dataclass(frozen=True)
class Topics:
    """Topics in their order, each with the pattern of its words."""

    patterns: Mapping[str, re.Pattern[str]]

    def of(self, questions: Sequence[str]) -> str:
        """Return the topic with the most hits, the first of several; OTHER without any.

        The first question says what the person came for: a hit there counts three times.
        """
        text = "\n".join([*list(questions[:1]) * (_FIRST_COUNTS - 1), *questions]).casefold()
        hits = Counter({name: len(found.findall(text)) for name, found in self.patterns.items()})
        best = max(self.patterns, key=lambda name: hits[name], default=OTHER)
        return best if hits[best] else OTHER


def read_topics(path: Path = TOPICS) -> Topics:
    """Return the topics of a YAML file: a list of words for each name. Raises DataError."""
    text = read_given_text(path, "The list of topics", error=DataError)
    try:
        content, repeated = read_yaml(text)
    except NotYaml as error:
        raise _wrong(path, str(error)) from error
    if repeated:
        raise _wrong(path, f"named twice: {', '.join(repeated)}")
    if not isinstance(content, dict) or not all(_is_list_of_words(v) for v in content.values()):
        raise _wrong(path, "not a list of words for each topic")
    return Topics({str(name): _pattern(words) for name, words in content.items()})


def topics_in(path: Path, topics: Topics) -> dict[int, str]:
    """Return the topic of each conversation of a file, by its position. Raises DataError.

    A record that is no conversation is left out: it is not measured either.
    """
    found = ((position, parse_record(value, position)) for position, value in values(path))
    return {
        position: topics.of(questions_of(record))
        for position, record in found
        if isinstance(record, Conversation)
    }


def questions_of(conversation: Conversation) -> list[str]:
    """Return what the person says."""
    return [turn.text for turn in conversation.turns if turn.speaker == "human"]


def _pattern(words: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(_of_word(word.casefold()) for word in words))


def _of_word(word: str) -> str:
    escaped = re.escape(word)
    return escaped if len(word) >= _WORD_LETTERS else rf"\b{escaped}\b"


def _is_list_of_words(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(word, str) and word.strip() for word in value)
    )


def _wrong(path: Path, found: str) -> DataError:
    return DataError(
        "The list of topics cannot be read.",
        where=path,
        expected="`modal: [modal, kur, pinjam]`, a line for each topic",
        found=found,
        next_step="Correct the file.",
    )
