"""The records of a deployment's collected answers, one per line.

An answer, a rating by the person who asked, and a reviewer's decision are separate lines, joined by
the id of the answer. The invariant: every text in a line was redacted before it was written.
"""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

RatingVerdict = Literal["up", "down"]
Decision = Literal["accept", "reject"]

LONGEST_CORRECTION = 20_000

AnswerId = Annotated[str, Field(pattern=r"^[\w.-]{1,128}$")]
Person = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
KeyName = Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    id: AnswerId = Field(description="Id of the completion with the answer.")
    person: Person = Field(description="Who asked: the hash of `person.person_of`.")
    time: AwareDatetime


class CollectedMessage(BaseModel):
    """One message of the conversation before an answer."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    role: Literal["system", "user", "assistant"]
    content: str


class CollectedAnswer(_Line):
    """An answer and the conversation before it, kept with the consent of the person who asked."""

    kind: Literal["answer"] = "answer"
    client: KeyName = Field("anybody", description="Name of the API key used.")
    model: str
    build: str | None
    messages: tuple[CollectedMessage, ...] = Field(
        min_length=1, description="The question comes last."
    )
    answer: str
    cut: bool = Field(False, description="Whether the token limit cut it.")


class Rating(_Line):
    """The rating of an answer by the person who asked. The latest one counts."""

    kind: Literal["rating"] = "rating"
    verdict: RatingVerdict | None
    correction: str | None


class Review(_Line):
    """A reviewer's decision about an answer. The latest one counts."""

    kind: Literal["review"] = "review"
    reviewer: str
    decision: Decision
    answer: str | None = Field(description="What is learned instead of the answer.")


Line = Annotated[CollectedAnswer | Rating | Review, Field(discriminator="kind")]

LINE: TypeAdapter[CollectedAnswer | Rating | Review] = TypeAdapter(Line)


def line_of(record: CollectedAnswer | Rating | Review) -> bytes:
    """Return the record as one line of JSON, with its line end."""
    return record.model_dump_json().encode() + b"\n"
