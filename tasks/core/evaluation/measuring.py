"""Measure the models of a job: perplexity, distance to the models before, answers to prompts.

Everything that can be checked without a model is checked before the first one is loaded. One model
is in memory at a time. Prints each step as a line.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from tasks.core.conversation.checking.findings import Screening
from tasks.core.conversation.checking.rules import Rules
from tasks.core.conversation.checking.screening import screen
from tasks.core.conversation.examples.labels import Encoder, Example
from tasks.core.conversation.records import Conversation
from tasks.core.errors import DataError
from tasks.core.evaluation.answering import Answerer
from tasks.core.evaluation.chain_figures import ChainFigures, ModelReading
from tasks.core.evaluation.figures import (
    EvaluationJob,
    EvaluationOutcome,
    HeldOut,
    ModelAnswer,
    Subject,
)
from tasks.core.evaluation.loading import load_model, reset_peak_memory
from tasks.core.evaluation.pace import Throttled
from tasks.core.evaluation.prompts import Prompt, choose, read_prompts
from tasks.core.evaluation.vocabulary import encoder_of, require_rows_for
from tasks.core.planning.times import ANSWERS_AT_ONCE
from tasks.core.process.said import say
from tasks.core.system.measure import return_freed_memory


@dataclass(frozen=True)
class EvaluationTexts:
    """The held-out conversations, with their positions in the file, and the prompts.

    encoders and examples: one encoder for each model, and what it makes of each conversation.
    """

    screening: Screening
    records: Sequence[tuple[int, Conversation]]
    prompts: Sequence[Prompt]
    encoders: Sequence[Encoder]
    examples: Sequence[Sequence[Example]]


def measure_models(job: EvaluationJob) -> EvaluationOutcome:
    """Return the figures and answers of all models of the job."""
    texts = _read_texts(job)
    chain, answers = ChainFigures(job), list[ModelAnswer]()
    for number in range(len(job.subjects)):
        answers += _measure(job, number, texts, chain)
        return_freed_memory()
    return EvaluationOutcome(
        figures=tuple(chain.figures),
        comparisons=tuple(chain.comparisons),
        answers=tuple(answers),
        held_out=_held_out(job, texts),
    )


def _measure(
    job: EvaluationJob, number: int, texts: EvaluationTexts, chain: ChainFigures
) -> list[ModelAnswer]:
    """Add the figures of the number-th model to the chain and return its answers."""
    subject, tokenizer = job.subjects[number], texts.encoders[number].tokenizer
    say(f"{subject.role}: loading")
    reset_peak_memory(job.settings.device)
    model = load_model(subject.path, job.settings, job.scratch)
    chain.add(ModelReading(subject, model, tokenizer, texts.records, texts.examples[number]))
    say(f"{subject.role}: perplexity {chain.figures[-1].perplexity:,.4g}")
    answerer = Answerer(subject.role, model, tokenizer, job.template)
    return _answers(subject, answerer, texts.prompts, job.settings.max_new_tokens)


def _answers(
    subject: Subject, answerer: Answerer, prompts: Sequence[Prompt], max_new_tokens: int
) -> list[ModelAnswer]:
    answers: list[ModelAnswer] = []
    for first in range(0, len(prompts), ANSWERS_AT_ONCE):
        asked = prompts[first : first + ANSWERS_AT_ONCE]
        what = f"{subject.role}: prompt {first + len(asked)} of {len(prompts)}"
        answers += answerer.answer(asked, max_new_tokens, _token_progress(what))
        say(f"{subject.role}: answered {', '.join(prompt.id for prompt in asked)}")
    return answers


def _token_progress(what: str) -> Callable[[int], None]:
    """Return a function that reports from time to time how many tokens an answer has so far."""
    progress = Throttled(say)
    return lambda tokens: progress(f"{what}, {tokens} tokens")


def _read_texts(job: EvaluationJob) -> EvaluationTexts:
    """Read and check what the models will be measured with. Raises DataError, NotAModel."""
    settings = job.settings
    encoders = [encoder_of(subject, job) for subject in job.subjects]
    rules = Rules.of_held_out(settings)
    screening = screen(settings.conversations, rules, encoder=encoders[0], others=encoders[1:])
    screening.require_acceptable()
    if screening.dropped:
        say(f"held-out records: {screening.dropped} of {screening.records} are set aside")
    records = list(islice(screening.conversations(), settings.max_conversations))
    prompts = choose(read_prompts(settings.prompts), settings.max_prompts)
    _require_no_special_tokens(prompts, encoders, job)
    examples = [[encoder.encode(each) for _, each in records] for encoder in encoders]
    for subject, encoder, own in zip(job.subjects, encoders, examples, strict=True):
        require_rows_for(subject, encoder.tokenizer, settings, own, prompts)
    return EvaluationTexts(screening, records, prompts, encoders, examples)


def _require_no_special_tokens(
    prompts: Sequence[Prompt], encoders: Sequence[Encoder], job: EvaluationJob
) -> None:
    """Raise DataError for a prompt that contains a special token of one of the tokenizers."""
    for prompt in prompts:
        marks = {mark for encoder in encoders for mark in encoder.marks_in(prompt.text)}
        if marks:
            raise DataError(
                "A prompt contains the text of a special token.",
                where=f"{job.settings.prompts}, prompt {prompt.id}",
                found=", ".join(sorted(marks)),
                next_step="Rephrase the prompt without it.",
            )


def _held_out(job: EvaluationJob, texts: EvaluationTexts) -> HeldOut:
    screening, positions = texts.screening, [position for position, _ in texts.records]
    return HeldOut(
        records=screening.records,
        measured=len(positions),
        set_aside={fault.value: count for fault, count in screening.faults.items()},
        first_set_aside=tuple(str(record) for record in screening.first_bad),
        leaks=job.overlap.among(positions) if job.overlap else None,
    )
