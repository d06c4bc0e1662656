"""Keeps the answers and ratings of people who agreed, without identifying them. For the gateway.

Each call takes the lock once or twice. The invariant: a text is redacted before it is written, what
a call reports as kept is on disk, and nothing is written beyond the limits.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

from tasks.core.collected.privacy.forgetting import forget
from tasks.core.collected.privacy.person import person_of, salt_of
from tasks.core.collected.privacy.placeholders import names_behind_placeholders
from tasks.core.collected.privacy.promises import promise
from tasks.core.collected.privacy.redaction import names_in, redacted, redacted_messages
from tasks.core.collected.privacy.retention import keep_within
from tasks.core.collected.privacy.tombstones import bury, clear_away, is_buried
from tasks.core.collected.storage.directory import SALT, day_file, day_files, directory_lock
from tasks.core.collected.storage.records import (
    CollectedAnswer,
    CollectedMessage,
    Rating,
    RatingVerdict,
    line_of,
)
from tasks.core.collected.storage.search import find_answer, find_rated
from tasks.core.collected.storage.shares import Shares
from tasks.core.collected.storage.writing import append
from tasks.core.files.private import private_directory

KeepOutcome = Literal["kept", "no-room", "unknown", "forgotten", "too-many"]

_LOCK_S = 30.0
_KEEP_LOCK_S = 600.0  # no client waits for it
_NAMES_OF = 10_000
"""Answers whose names are remembered, in memory only, to redact later corrections."""

MOST_RATINGS = 20
"""Per answer. The latest one counts; the limit is for programs that run wild."""


@dataclass(frozen=True)
class CollectionLimits:
    """How long answers are kept, and how many bytes in all."""

    retention_days: int
    max_bytes: int

    @property
    def person_bytes(self) -> int:
        """The bytes that one person may add per day, so that nobody pushes others' answers out."""
        return self.max_bytes // 10


@dataclass(frozen=True)
class OfferedAnswer:
    """An answer offered with consent; `begun` is the time of its request.

    client is the name of the API key it was asked with.
    """

    id: str
    client: str
    user: str
    model: str
    build: str | None
    messages: tuple[CollectedMessage, ...]
    answer: str
    begun: datetime
    cut: bool = False

    @property
    def size_bytes(self) -> int:
        """About how many bytes of memory it takes."""
        return 4 * (len(self.answer) + sum(len(each.content) for each in self.messages))


class Keeper:
    """Keeps the answers of one deployment. For a single thread.

    Every method raises OSError and KawanUsahaError.
    """

    def __init__(self, directory: Path, limits: CollectionLimits) -> None:
        self._directory = directory
        self._limits = limits
        self._shares = Shares(directory)
        self._names: OrderedDict[str, tuple[str, frozenset[str]]] = OrderedDict()

    def keep(self, offered: OfferedAnswer) -> KeepOutcome:
        """Keep an answer, unless the person had their answers deleted after asking for it."""
        names = names_in(offered.messages)
        messages = redacted_messages(offered.messages, names)
        answer = redacted(offered.answer, names)
        private_directory(self._directory)
        with directory_lock(self._directory, "keep an answer", wait_s=_KEEP_LOCK_S):
            person = self._person(offered.client, offered.user)
            if is_buried(self._directory, person, offered.begun):
                return "forgotten"
            record = CollectedAnswer(
                id=offered.id,
                person=person,
                client=offered.client,
                time=datetime.now(UTC),
                model=offered.model,
                build=offered.build,
                messages=messages,
                answer=answer,
                cut=offered.cut,
            )
            self._remember(record, names)
            return self._append(record)

    def rate(
        self,
        answer_id: str,
        client: str,
        user: str,
        verdict: RatingVerdict | None,
        text: str | None,
    ) -> KeepOutcome:
        """Keep a person's rating of an answer; `unknown` if it is not kept, or not theirs."""
        if not self._directory.exists():
            return "unknown"
        correction = None
        if text is not None:
            with directory_lock(self._directory, "find an answer", shared=True, wait_s=_LOCK_S):
                found = find_answer(self._directory, answer_id)
                if found is None or found.person != self._person(client, user):
                    return "unknown"
            correction = self._corrected(found, text)  # outside of the lock: it may take a second
        with directory_lock(self._directory, "keep a rating", wait_s=_LOCK_S):
            answer, ratings = find_rated(self._directory, answer_id)
            if answer is None or answer.person != self._person(client, user):
                return "unknown"
            if ratings >= MOST_RATINGS:
                return "too-many"
            return self._append(
                Rating(
                    id=answer_id,
                    person=answer.person,
                    time=datetime.now(UTC),
                    verdict=verdict,
                    correction=correction,
                )
            )

    def prepare(self) -> None:
        """Create the directory and its salt: people can be forgotten before anything is kept."""
        private_directory(self._directory)
        with directory_lock(self._directory, "begin to collect", wait_s=_LOCK_S):
            salt_of(self._directory)

    def forget(self, client: str, user: str) -> int:
        """Delete everything of a person and return the number of answers deleted.

        Answers to requests that are still running will not be kept either.
        """
        if not (self._directory / SALT).exists() and not day_files(self._directory):
            return 0
        with directory_lock(self._directory, "delete what is kept of a person", wait_s=_LOCK_S):
            person = self._person(client, user)
            for answer_id in [each for each, (whose, _) in self._names.items() if whose == person]:
                del self._names[answer_id]
            bury(self._directory, person, datetime.now(UTC))
            self._shares.less(person)
            return forget(self._directory, person)

    def tidy(self) -> None:
        """Delete everything whose retention has ended."""
        if self._directory.exists():
            with directory_lock(self._directory, "delete what is over its time", wait_s=_LOCK_S):
                now = datetime.now(UTC)
                clear_away(self._directory, now)
                self._has_room(now.date())

    def _person(self, client: str, user: str) -> str:
        return person_of(client, user, salt_of(self._directory))

    def _append(self, record: CollectedAnswer | Rating) -> KeepOutcome:
        line, today = line_of(record), record.time.date()
        if self._shares.of(record.person, today) + len(line) > self._limits.person_bytes:
            return "no-room"
        # Ratings must not push answers of other people out.
        if not self._has_room(today, len(line), makes_room=isinstance(record, CollectedAnswer)):
            return "no-room"
        if isinstance(record, CollectedAnswer):
            kept = [date.fromisoformat(path.stem) for path in day_files(self._directory)]
            promise(self._directory, today, self._limits.retention_days, kept)
        append(day_file(self._directory, today), line)
        self._shares.add(record.person, len(line))
        return "kept"

    def _has_room(self, today: date, coming_bytes: int = 0, *, makes_room: bool = True) -> bool:
        return keep_within(
            self._directory,
            retention_days=self._limits.retention_days,
            max_bytes=self._limits.max_bytes,
            today=today,
            coming_bytes=coming_bytes,
            makes_room=makes_room,
        )

    def _remember(self, answer: CollectedAnswer, names: frozenset[str]) -> None:
        if names:
            self._names[answer.id] = answer.person, names
            while len(self._names) > _NAMES_OF:
                self._names.popitem(last=False)

    def _corrected(self, answer: CollectedAnswer, text: str) -> str:
        """Return a correction without the names in its conversation."""
        _, names = self._names.get(answer.id, ("", frozenset()))
        names |= names_in((), text) | names_behind_placeholders(answer.answer, text)
        return redacted(text, names)
