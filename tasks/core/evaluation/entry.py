"""The measuring process.

A process of its own, so that running out of memory costs this step only. It reads a job file and
writes an outcome file, whole or not at all; one model is in memory at a time. It prints what it is
doing, a line a step.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tasks.core.conversation.checking.rules import Rules
from tasks.core.conversation.checking.screening import screen
from tasks.core.conversation.examples.labels import Encoder, Example
from tasks.core.conversation.records import Conversation
from tasks.core.conversation.tokenizer.identity import tokenizer_digest
from tasks.core.errors import DataError, EvaluationFailed, KawanUsahaError
from tasks.core.evaluation.answering import Answerer
from tasks.core.evaluation.expected import Expected, Reader
from tasks.core.evaluation.figures import (
    Answer,
    Comparison,
    EvaluationJob,
    Figures,
    HeldOut,
    Outcome,
    Read,
    Role,
    Subject,
)
from tasks.core.evaluation.loading import (
    load_model,
    peak_memory_bytes,
    reset_peak_memory,
)
from tasks.core.evaluation.pace import Seldom
from tasks.core.evaluation.prompts import Prompt, choose, read_prompts
from tasks.core.evaluation.scoring import Distance, Score, learned_tokens, score
from tasks.core.evaluation.vocabulary import encoder_of, require_rows_for
from tasks.core.files.durable import write_atomically
from tasks.core.planning.times import ANSWERS_AT_ONCE
from tasks.core.process.said import say
from tasks.core.system.errors import system_error
from tasks.core.system.exhaustion import exhausted_memory
from tasks.core.system.measure import return_freed_memory

MORE_MEMORY = "Lower evaluate.max_length_tokens, or give the machine more memory."


def main(job_file: str, outcome_file: str) -> int:
    """Measure the models that the job names, and return the exit code."""
    job, out = EvaluationJob.model_validate_json(Path(job_file).read_bytes()), Path(outcome_file)
    try:
        outcome = measure(job)
    except KawanUsahaError as error:
        return _fail(error, out)
    except Exception as error:
        told = _of_memory(error) or system_error(error)
        if told is None:
            raise
        return _fail(told, out)
    write_atomically(out, outcome.model_dump_json(indent=1) + "\n")
    return 0


def _of_memory(error: Exception) -> EvaluationFailed | None:
    memory = exhausted_memory(error)
    if memory is None:
        return None
    return EvaluationFailed(
        f"The {memory} ran out of memory while a model was measured.",
        found=f"{type(error).__name__}: {error}".splitlines()[0],
        next_step=MORE_MEMORY,
    )


def measure(job: EvaluationJob) -> Outcome:
    """Return what was measured, one model after the other."""
    settings = job.settings
    encoders = [encoder_of(subject, job) for subject in job.subjects]
    rules = Rules.of_held_out(settings)
    screening = screen(settings.conversations, rules, encoder=encoders[0], others=encoders[1:])
    screening.require_acceptable()
    kept = islice(screening.conversations(), settings.max_conversations)
    records = list(kept)
    positions, conversations = zip(*records, strict=True)
    if screening.dropped:
        say(f"held-out records: {screening.dropped} of {screening.records} are set aside")
    prompts = choose(read_prompts(settings.prompts), settings.max_prompts)
    _require_plain_words(prompts, encoders, settings.prompts)
    readings = [[encoder.encode(each) for each in conversations] for encoder in encoders]
    for subject, encoder, examples in zip(job.subjects, encoders, readings, strict=True):
        require_rows_for(subject, encoder.tokenizer, job.settings, examples, prompts)
    measured = _Measured(job)
    answers: list[Answer] = []
    for subject, encoder, examples in zip(job.subjects, encoders, readings, strict=True):
        role, tokenizer = subject.role, encoder.tokenizer
        say(f"{role}: loading")
        reset_peak_memory(settings.device)
        model = load_model(subject.path, settings, job.scratch)
        measured.add(subject, model, records, examples, tokenizer=tokenizer)
        say(f"{role}: perplexity {measured.figures[-1].perplexity:,.4g}")
        answerer = Answerer(role, model, tokenizer, job.template)
        for first in range(0, len(prompts), ANSWERS_AT_ONCE):
            asked = prompts[first : first + ANSWERS_AT_ONCE]
            at = _TokensOf(f"{role}: prompt {first + len(asked)} of {len(prompts)}")
            answers += answerer.answer(asked, settings.max_new_tokens, at)
            say(f"{role}: answered {', '.join(prompt.id for prompt in asked)}")
        del model, answerer  # before the next one is loaded
        return_freed_memory()
    return Outcome(
        figures=tuple(measured.figures),
        comparisons=tuple(measured.comparisons),
        answers=tuple(answers),
        held_out=HeldOut(
            records=screening.records,
            measured=len(conversations),
            set_aside={fault.value: count for fault, count in screening.faults.items()},
            first_set_aside=tuple(str(record) for record in screening.first_bad),
            leaks=job.overlap.among(positions) if job.overlap else None,
        ),
    )


def _require_plain_words(
    prompts: Sequence[Prompt], encoders: Sequence[Encoder], path: Path
) -> None:
    """Raise DataError for a prompt that holds a special token of one of the tokenizers."""
    for prompt in prompts:
        marks = {mark for encoder in encoders for mark in encoder.marks_in(prompt.text)}
        if marks:
            raise DataError(
                "A prompt holds the text of a special token.",
                where=f"{path}, prompt {prompt.id}",
                found=", ".join(sorted(marks)),
                next_step="Write it differently there.",
            )


class _TokensOf:
    """Says now and then how many tokens the answer at hand has."""

    def __init__(self, what: str) -> None:
        self._what, self._progress = what, Seldom(say)

    def __call__(self, tokens: int) -> None:
        self._progress(f"{self._what}, {tokens} tokens")


@dataclass(frozen=True)
class _Kept:
    """What one model read, the id of each token of its vocabulary, and what it expected."""

    examples: Sequence[Example]
    vocabulary: int
    words: dict[str, int]
    expected: Expected


class _Measured:
    """Figures of the models so far, and what those expected that later ones are held against."""

    def __init__(self, job: EvaluationJob) -> None:
        self.figures: list[Figures] = []
        self.comparisons: list[Comparison] = []
        self._job = job
        self._kept: dict[Role, _Kept] = {}

    def add(
        self,
        subject: Subject,
        model: PreTrainedModel,
        records: Sequence[tuple[int, Conversation]],
        examples: Sequence[Example],
        *,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        """Add the figures of one more model. records are the conversations with their positions.
        Raises DataError when no answer can be measured."""
        tokens, vocabulary = learned_tokens(examples), int(model.config.vocab_size)
        if tokens == 0:
            raise DataError(
                "No answer of the held-out conversations fits into the length.",
                next_step="Raise evaluate.max_length_tokens.",
            )
        own, reader = None, Reader(model, examples)
        words = {word: i for word, i in tokenizer.get_vocab().items() if i < vocabulary}
        if subject.role in self._compared_later():
            place = self._job.scratch / f"{subject.role}.expected"
            own = reader.expected_in(place, tokens).create()
        progress, at = Seldom(say), f"of {len(examples)}"
        sums = score(
            reader,
            examples,
            self._comparable(subject, examples, words, vocabulary),
            own,
            lambda number: progress(f"{subject.role}: conversation {number} {at}"),
        )
        self.comparisons += [
            _comparison(role, subject.role, distance, sums.tokens)
            for role, distance in sums.distances.items()
        ]
        self.figures.append(
            _figures(
                subject.role,
                model,
                examples,
                _reads(records, examples, sums),
                sums,
                device=self._job.settings.device,
                tokenizer=tokenizer_digest(tokenizer),
            )
        )
        if own is not None:
            self._kept[subject.role] = _Kept(examples, vocabulary, words, own)
        self._forget_what_nobody_needs()

    def _comparable(
        self, subject: Subject, examples: Sequence[Example], words: dict[str, int], vocabulary: int
    ) -> dict[Role, Expected]:
        """Return what this model is held against, as far as both see the same tokens."""
        kept = ((role, self._kept[role]) for role in subject.against)
        return {
            role: theirs.expected
            for role, theirs in kept
            if theirs.vocabulary == vocabulary
            and theirs.words == words
            and theirs.examples == examples
        }

    def _compared_later(self) -> set[Role]:
        to_come = self._job.subjects[len(self.figures) :]
        return {role for subject in to_come for role in subject.against}

    def _forget_what_nobody_needs(self) -> None:
        for role in self._kept.keys() - self._compared_later():
            self._kept.pop(role).expected.path.unlink()


def _figures(
    role: Role,
    model: PreTrainedModel,
    examples: Sequence[Example],
    reads: tuple[Read, ...],
    sums: Score,
    *,
    device: str,
    tokenizer: str,
) -> Figures:
    return Figures(
        role=role,
        conversations=sum(bool(example.input_ids) for example in examples),
        tokens=sums.tokens,
        utf8_bytes=sum(read.utf8_bytes for read in reads),
        nll_nats=sums.nll_nats,
        dtype=str(model.dtype).removeprefix("torch."),
        tokens_per_s=sum(len(example.input_ids) for example in examples) / sums.wall_s,
        peak_memory_bytes=peak_memory_bytes(device),
        tokenizer_digest=tokenizer,
        reads=reads,
    )


def _reads(
    records: Sequence[tuple[int, Conversation]], examples: Sequence[Example], sums: Score
) -> tuple[Read, ...]:
    return tuple(
        Read(
            position=records[place][0],
            tokens=learned_tokens([examples[place]]),
            utf8_bytes=_answered_bytes(records[place][1], examples[place]),
            nll_nats=nats,
        )
        for place, nats in sums.nats.items()
    )


def _comparison(before: Role, after: Role, distance: Distance, tokens: int) -> Comparison:
    return Comparison(
        before=before,
        after=after,
        tokens=tokens,
        kl_divergence_nats=distance.kl_nats / tokens,
        top1_agreement=distance.top1_agreements / tokens,
    )


def _answered_bytes(conversation: Conversation, example: Example) -> int:
    """Return the bytes of UTF-8 of the answers that fit into the length."""
    texts = [turn.text for turn in conversation.turns if turn.speaker == "gpt"]
    return sum(len(text.encode()) for text in texts[: len(texts) - example.dropped_answers])


def _fail(error: KawanUsahaError, outcome_file: Path) -> int:
    write_atomically(outcome_file, json.dumps({"error": error.as_dict()}))
    return error.exit_code
