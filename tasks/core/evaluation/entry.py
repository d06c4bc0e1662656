"""The measuring process: `python -m tasks.core.evaluation.entry JOB OUTCOME`.

A process of its own, so that running out of memory costs this step only. It reads a job file and
writes an outcome file, whole or not at all; one model is in memory at a time. It prints what it is
doing, a line a step.
"""

import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from tasks.core.conversation.labels import Encoder, Example
from tasks.core.conversation.reading import load
from tasks.core.conversation.records import Conversation
from tasks.core.errors import DataError, KawanUsahaError
from tasks.core.evaluation.answering import Answerer, read_prompts
from tasks.core.evaluation.figures import (
    Answer,
    Comparison,
    EvaluationJob,
    Figures,
    Outcome,
    Role,
    Subject,
)
from tasks.core.evaluation.scoring import Distributions, Score, learned_tokens, score
from tasks.core.files import write_atomically
from tasks.core.recipe import Evaluate


def main(job_file: Path, outcome_file: Path) -> int:
    """Measure the chain of models that the job names, and return the exit code."""
    job = EvaluationJob.model_validate_json(job_file.read_bytes())
    try:
        outcome = measure(job)
    except KawanUsahaError as error:
        write_atomically(outcome_file, json.dumps({"error": error.as_dict()}))
        return error.exit_code
    write_atomically(outcome_file, outcome.model_dump_json(indent=1) + "\n")
    return 0


def measure(job: EvaluationJob) -> Outcome:
    """Return what was measured, one model of the chain after the other."""
    settings = job.settings
    conversations = load(settings.conversations)[: settings.max_conversations]
    prompts = list(read_prompts(settings.prompts).items())[: settings.max_prompts]
    chain = _Chain(job.scratch)
    answers: list[Answer] = []
    for subject in job.subjects:
        say(f"{subject.role}: loading")
        tokenizer = AutoTokenizer.from_pretrained(subject.path, trust_remote_code=True)
        encoder = Encoder(tokenizer, job.template, settings.max_length_tokens)
        examples = [encoder.encode(conversation) for conversation in conversations]
        model = _load(subject, settings)
        chain.measure(subject.role, model, conversations, examples)
        say(f"{subject.role}: perplexity {chain.figures[-1].perplexity:.3f}")
        answerer = Answerer(subject.role, model, tokenizer, job.template)
        for prompt_id, prompt in prompts:
            answers.append(answerer.answer(prompt_id, prompt, settings.max_new_tokens))
            say(f"{subject.role}: answered {prompt_id}")
        del model, answerer  # before the next one is loaded
    return Outcome(
        figures=tuple(chain.figures), comparisons=tuple(chain.comparisons), answers=tuple(answers)
    )


def say(line: str) -> None:
    """Print one line for the process that watches this one."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class _Chain:
    """Figures of the models so far, and the last one's distributions for the next to be held to."""

    def __init__(self, scratch: Path) -> None:
        self.figures: list[Figures] = []
        self.comparisons: list[Comparison] = []
        self._scratch = scratch
        self._examples: Sequence[Example] = ()
        self._last: Distributions | None = None

    def measure(
        self,
        role: Role,
        model: PreTrainedModel,
        conversations: Sequence[Conversation],
        examples: Sequence[Example],
    ) -> None:
        """Add the figures of one more model. Raises DataError when no answer can be measured."""
        tokens, vocabulary = learned_tokens(examples), int(model.config.vocab_size)
        if tokens == 0:
            raise DataError(
                "No answer of the held-out conversations fits into the length.",
                next_step="Raise evaluate.max_length_tokens.",
            )
        own = Distributions.create(self._scratch / f"{role}.f32", tokens, vocabulary)
        before = self._last if self._comparable(examples, vocabulary) else None
        sums = score(model, examples, before, own)
        if before is not None:
            self.comparisons.append(_comparison(self.figures[-1].role, role, sums))
        self.figures.append(_figures(role, model, conversations, examples, sums))
        if self._last is not None:
            self._last.path.unlink()
        self._examples, self._last = examples, own

    def _comparable(self, examples: Sequence[Example], vocabulary: int) -> bool:
        last = self._last
        return last is not None and last.vocabulary == vocabulary and self._examples == examples


def _load(subject: Subject, settings: Evaluate) -> PreTrainedModel:
    """Load in float32 on a CPU, where half precision is slow; as stored on a GPU."""
    on_gpu = settings.device == "cuda"
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        subject.path,
        trust_remote_code=True,
        dtype="auto" if on_gpu else torch.float32,
        device_map="auto" if on_gpu else None,
    )
    model.eval()  # type: ignore[no-untyped-call]
    return model


def _figures(
    role: Role,
    model: PreTrainedModel,
    conversations: Sequence[Conversation],
    examples: Sequence[Example],
    sums: Score,
) -> Figures:
    return Figures(
        role=role,
        conversations=sum(bool(example.input_ids) for example in examples),
        tokens=sums.tokens,
        utf8_bytes=_answered_bytes(conversations, examples),
        nll_nats=sums.nll_nats,
        tokens_per_s=sum(len(example.input_ids) for example in examples) / sums.wall_s,
        peak_memory_bytes=_peak_memory_bytes(model.device.type),
    )


def _comparison(before: Role, after: Role, sums: Score) -> Comparison:
    return Comparison(
        before=before,
        after=after,
        tokens=sums.tokens,
        kl_divergence_nats=sums.kl_nats / sums.tokens,
        top1_agreement=sums.top1_agreements / sums.tokens,
    )


def _answered_bytes(conversations: Sequence[Conversation], examples: Sequence[Example]) -> int:
    """Return the bytes of UTF-8 of the answers that fit into the length."""
    total = 0
    for conversation, example in zip(conversations, examples, strict=True):
        texts = [turn.text for turn in conversation.turns if turn.speaker == "gpt"]
        kept = texts[: len(texts) - example.dropped_answers]
        total += sum(len(text.encode()) for text in kept)
    return total


def _peak_memory_bytes(device: str) -> int:
    """Return the peak so far: of the GPUs, or of this process where it computes on the CPU."""
    if device == "cuda":
        return sum(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count()))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
