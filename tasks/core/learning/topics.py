"""The topic of a conversation, by the words of its questions: cheap and deterministic."""

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
OTHER_TOPIC = "lain"
_WORD_LETTERS = 4
"""A shorter word counts only as a whole word: `kur` is part of `kurang`."""

_FIRST_COUNTS = 3


@dataclass(frozen=True)
class Topics:
    """The topics in order, each with the pattern of its words."""

    patterns: Mapping[str, re.Pattern[str]]

    def of(self, questions: Sequence[str]) -> str:
        """Return the topic with the most hits, the first in order among equals, or OTHER_TOPIC.

        A hit in the first question counts three times: it says what the person came for.
        """
        text = "\n".join([*list(questions[:1]) * (_FIRST_COUNTS - 1), *questions]).casefold()
        hits = Counter({name: len(found.findall(text)) for name, found in self.patterns.items()})
        best = max(self.patterns, key=lambda name: hits[name], default=OTHER_TOPIC)
        return best if hits[best] else OTHER_TOPIC


def read_topics(path: Path = TOPICS) -> Topics:
    """Return the topics of a YAML file with a list of words per topic. Raises DataError."""
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
    """Return the topic of each conversation in a file, by position. Raises DataError.

    Bad records are left out: they are not measured either.
    """
    found = ((position, parse_record(value, position)) for position, value in values(path))
    return {
        position: topics.of(questions_of(record))
        for position, record in found
        if isinstance(record, Conversation)
    }


def questions_of(conversation: Conversation) -> list[str]:
    """Return the texts of the person."""
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
