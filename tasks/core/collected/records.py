"""The lines of a deployment's collected answers, as they stand on the disk.

An answer, what the person thinks of it, and what a reviewer decided are a line each, joined by the
answer's id. The invariant: every text in a line has been through `redaction` before.
"""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

Verdict = Literal["up", "down"]
Decision = Literal["accept", "reject"]

LONGEST_CORRECTION = 20_000

AnswerId = Annotated[str, Field(pattern=r"^[\w.-]{1,128}$")]
Person = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
KeyName = Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    id: AnswerId = Field(description="Of the completion that the answer came with.")
    person: Person = Field(description="Who asked, as `person.person_of` hashes the client's id.")
    time: AwareDatetime


class Message(BaseModel):
    """One turn of the conversation before an answer."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    role: Literal["system", "user", "assistant"]
    content: str


class CollectedAnswer(_Line):
    """One answer with the conversation before it, which somebody agreed to have kept."""

    kind: Literal["answer"] = "answer"
    client: KeyName = Field("anybody", description="The name of the key it was asked with.")
    model: str
    build: str | None
    messages: tuple[Message, ...] = Field(min_length=1, description="The question comes last.")
    answer: str
    cut: bool = Field(False, description="Whether it ends where no more tokens were allowed.")


class Rating(_Line):
    """What the person who asked thinks of the answer. The latest one counts."""

    kind: Literal["rating"] = "rating"
    verdict: Verdict | None
    correction: str | None


class Review(_Line):
    """What a member of the team decided. The latest one counts."""

    kind: Literal["review"] = "review"
    reviewer: str
    decision: Decision
    answer: str | None = Field(description="What is to be learned; None stands for what was said.")


Line = Annotated[CollectedAnswer | Rating | Review, Field(discriminator="kind")]

LINE: TypeAdapter[CollectedAnswer | Rating | Review] = TypeAdapter(Line)


def line_of(record: CollectedAnswer | Rating | Review) -> bytes:
    """Return the record as one line of JSON, its end included."""
    return record.model_dump_json().encode() + b"\n"
