"""Figures of the models of a chain, one after the other, and the distances between them.

What a model predicts is kept in a file only while a later model is still compared with it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tasks.core.conversation.examples.labels import Example
from tasks.core.conversation.records import Conversation
from tasks.core.conversation.tokenizer.identity import tokenizer_digest
from tasks.core.errors import DataError
from tasks.core.evaluation.figures import (
    Comparison,
    ConversationFigures,
    EvaluationJob,
    Figures,
    Role,
    Subject,
)
from tasks.core.evaluation.loading import peak_memory_bytes
from tasks.core.evaluation.pace import Throttled
from tasks.core.evaluation.predictions import PredictionReader, StoredPredictions
from tasks.core.evaluation.scoring import Distance, Score, learned_tokens, score
from tasks.core.process.said import say


@dataclass(frozen=True)
class ModelReading:
    """One loaded model, and the conversations that it reads.

    records are the conversations with their positions in the file; examples, in the same order,
    are their tokens.
    """

    subject: Subject
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    records: Sequence[tuple[int, Conversation]]
    examples: Sequence[Example]

    @property
    def vocab_size(self) -> int:
        """The width of the model's logits."""
        return int(self.model.config.vocab_size)

    def token_ids(self) -> dict[str, int]:
        """Return the id of each token that the model can predict."""
        vocabulary = self.tokenizer.get_vocab().items()
        return {token: number for token, number in vocabulary if number < self.vocab_size}


@dataclass(frozen=True)
class _EarlierModel:
    """What one model read, the id of each token of its vocabulary, and what it predicted."""

    examples: Sequence[Example]
    vocab_size: int
    token_ids: dict[str, int]
    predictions: StoredPredictions

    def sees_the_same_tokens(self, reading: ModelReading) -> bool:
        return (
            self.vocab_size == reading.vocab_size
            and self.token_ids == reading.token_ids()
            and self.examples == reading.examples
        )


class ChainFigures:
    """The figures of the models so far, and the predictions that later ones are compared with."""

    def __init__(self, job: EvaluationJob) -> None:
        self.figures: list[Figures] = []
        self.comparisons: list[Comparison] = []
        self._job = job
        self._earlier: dict[Role, _EarlierModel] = {}

    def add(self, reading: ModelReading) -> None:
        """Add the figures of one more model. Raises DataError when no answer can be measured."""
        tokens = learned_tokens(reading.examples)
        if tokens == 0:
            raise DataError(
                "No answer of the held-out conversations fits within the maximum length.",
                next_step="Raise evaluate.max_length_tokens.",
            )
        role, reader = reading.subject.role, PredictionReader(reading.model, reading.examples)
        own = None
        if role in self._compared_later():
            place = self._job.scratch / f"{role}.expected"
            own = reader.predictions_in(place, tokens).create()
        sums = score(
            reader, reading.examples, self._comparable(reading), own, _read_progress(reading)
        )
        self.comparisons += [
            _comparison(before, role, distance, sums.tokens)
            for before, distance in sums.distances.items()
        ]
        self.figures.append(_figures(reading, sums, device=self._job.settings.device))
        if own is not None:
            self._earlier[role] = _EarlierModel(
                reading.examples, reading.vocab_size, reading.token_ids(), own
            )
        self._remove_unneeded()

    def _comparable(self, reading: ModelReading) -> dict[Role, StoredPredictions]:
        """Return the predictions to compare with: those of models that see the same tokens."""
        earlier = ((role, self._earlier[role]) for role in reading.subject.against)
        return {
            role: each.predictions for role, each in earlier if each.sees_the_same_tokens(reading)
        }

    def _compared_later(self) -> set[Role]:
        to_come = self._job.subjects[len(self.figures) :]
        return {role for subject in to_come for role in subject.against}

    def _remove_unneeded(self) -> None:
        for role in self._earlier.keys() - self._compared_later():
            self._earlier.pop(role).predictions.path.unlink()


def _read_progress(reading: ModelReading) -> Callable[[int], None]:
    """Return a function that reports from time to time how many conversations have been read."""
    progress = Throttled(say)
    role, total = reading.subject.role, len(reading.examples)
    return lambda number: progress(f"{role}: conversation {number} of {total}")


def _figures(reading: ModelReading, sums: Score, *, device: str) -> Figures:
    reads, examples = _by_conversation(reading, sums), reading.examples
    return Figures(
        role=reading.subject.role,
        conversations=sum(bool(example.input_ids) for example in examples),
        tokens=sums.tokens,
        utf8_bytes=sum(read.utf8_bytes for read in reads),
        nll_nats=sums.nll_nats,
        dtype=str(reading.model.dtype).removeprefix("torch."),
        tokens_per_s=sum(len(example.input_ids) for example in examples) / sums.wall_s,
        peak_memory_bytes=peak_memory_bytes(device),
        tokenizer_digest=tokenizer_digest(reading.tokenizer),
        reads=reads,
    )


def _by_conversation(reading: ModelReading, sums: Score) -> tuple[ConversationFigures, ...]:
    return tuple(
        ConversationFigures(
            position=reading.records[place][0],
            tokens=learned_tokens([reading.examples[place]]),
            utf8_bytes=_answered_bytes(reading.records[place][1], reading.examples[place]),
            nll_nats=nats,
        )
        for place, nats in sums.nats.items()
    )


def _answered_bytes(conversation: Conversation, example: Example) -> int:
    """Return the UTF-8 bytes of the answers that fit into the length."""
    texts = [turn.text for turn in conversation.turns if turn.speaker == "gpt"]
    return sum(len(text.encode()) for text in texts[: len(texts) - example.dropped_answers])


def _comparison(before: Role, after: Role, distance: Distance, tokens: int) -> Comparison:
    return Comparison(
        before=before,
        after=after,
        tokens=tokens,
        kl_divergence_nats=distance.kl_nats / tokens,
        top1_agreement=distance.top1_agreements / tokens,
    )
