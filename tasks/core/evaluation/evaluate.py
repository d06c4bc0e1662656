"""Evaluate models in processes of their own, and say why when one of those ends badly."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from tasks.core.conversation.checking.leaks import Overlap
from tasks.core.conversation.tokenizer.model_limits import check_length, check_token_ids
from tasks.core.errors import DataError, EvaluationFailed, KawanUsahaError
from tasks.core.evaluation.benchmarks import lm_eval_version, run_benchmarks
from tasks.core.evaluation.figures import EvaluationJob, Outcome, Subject
from tasks.core.files.digests import sha256_of
from tasks.core.files.durable import write_atomically
from tasks.core.files.given import require_at_rest
from tasks.core.files.listing import paths_below
from tasks.core.files.temporary import scratch_directory
from tasks.core.home import PROJECT
from tasks.core.keys import digest
from tasks.core.machine.devices import alone_on, require_gpu_memory
from tasks.core.machine.hardware import read_gpu_use
from tasks.core.model.config import read_config
from tasks.core.model.template_record import recorded_template, template_for
from tasks.core.process import NETWORK, Cause, ChildResult, child_environment, run_child
from tasks.core.process.answer_file import error_left_in, read_answer
from tasks.core.process.quick_start import quick_start
from tasks.core.process.said import only_said
from tasks.core.recipe import Evaluate
from tasks.core.weights.index import read_index
from tasks.core.weights.model_check import check_model

_log = logging.getLogger(__name__)

OUTCOME = "evaluation.json"
LENGTH = "evaluate.max_length_tokens"
_QUIET = {"TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
"""A log is no place for a progress bar. What the user has set stays."""
WITH_ACTIVATIONS = 1.2
"""Times its weights is what a model takes of the GPUs that measure it, roughly."""


def evaluate(
    subjects: Sequence[Subject],
    settings: Evaluate,
    *,
    template: str,
    out: Path,
    overlap: Overlap | None = None,
    on_line: Callable[[str], None] | None = None,
    log: Path | None = None,
) -> Outcome:
    """Measure the models, each against those that it names, and write the outcome to out.

    `overlap`, what of the held-out conversations stands in the training data, goes into the
    outcome as far as it was measured.
    Benchmarks, if any are named, are run for the last model and those that it is held against.
    `on_line` gets what the measuring says, the file `log` everything that its processes print.
    It is the only build on its devices, and waits for another one, which `on_line` is told.
    Writes `evaluation.json` into the existing directory out, whole or not at all. Raises what
    `check_model` raises, TemplateMismatch when the last model was trained with another template,
    DataError for conversations or prompts that cannot be used, MissingTool for benchmarks without
    lm-eval, EvaluationFailed with the cause when a measuring process ends without an outcome,
    DeviceBusy when a deployment leaves too little of a GPU.
    """
    say = on_line or _log.info
    for subject in subjects:
        check_model(subject.path, in_place=True)
        for warning in _check_limits(subject, settings, compared=subject is not subjects[-1]):
            say(f"Attention: {warning}")
    require_template(subjects, template, say)
    with (
        alone_on(settings.device, None, "evaluate", say=say),
        scratch_directory("evaluation") as work,
    ):
        require_gpu_memory(settings.device, None, _needed_bytes_a_gpu(subjects, settings))
        outcome = _measure(subjects, settings, template, work, overlap, on_line=on_line, log=log)
        if settings.benchmarks:
            last = subjects[-1]
            compared = [s for s in subjects if s is last or s.role in last.against]
            env = {**_QUIET, **child_environment(os.environ, *NETWORK)}
            found = [
                run_benchmarks(subject, settings, scratch=work, env=env, on_line=on_line, log=log)
                for subject in compared
            ]
            outcome = outcome.model_copy(update={"benchmarks": sum(found, ())})
    write_atomically(out / OUTCOME, outcome.model_dump_json(indent=1) + "\n")
    return outcome


def _check_limits(subject: Subject, settings: Evaluate, *, compared: bool) -> tuple[str, ...]:
    """Return what to warn of; what the tokenizer says is asked where it is loaded."""
    config, name = read_config(subject.path), f"{subject.role} ({subject.path})"
    check_token_ids(config, where=subject.path)
    length_tokens = settings.max_length_tokens
    return check_length(config, length_tokens, setting=LENGTH, model=name, compared=compared)


def require_template(
    subjects: Sequence[Subject], template: str, say: Callable[[str], None]
) -> None:
    """Raise TemplateMismatch when the last model, which is judged, was trained with another one.

    The others are what it is held against, such as the base of a fine-tune with a new template:
    `say` is told.
    """
    template_for(subjects[-1].path, template)
    for subject in subjects[:-1]:
        own = recorded_template(subject.path)
        if own not in (None, template):
            say(
                f"{subject.role} was trained with the template {own}, and is measured in {template}"
            )


def _needed_bytes_a_gpu(subjects: Sequence[Subject], settings: Evaluate) -> int | None:
    """Return roughly what the largest model takes of each GPU that it is spread over."""
    gpus = len(read_gpu_use()) if settings.device == "cuda" else 0
    if gpus == 0:
        return None
    largest = max(read_index(subject.path).total_bytes for subject in subjects)
    return int(WITH_ACTIVATIONS * largest / gpus)


def _measure(
    subjects: Sequence[Subject],
    settings: Evaluate,
    template: str,
    scratch: Path,
    overlap: Overlap | None,
    *,
    on_line: Callable[[str], None] | None,
    log: Path | None,
) -> Outcome:
    job_file, answer = scratch / "job.json", scratch / OUTCOME
    job = EvaluationJob(
        subjects=tuple(subjects),
        template=template,
        settings=settings,
        scratch=scratch,
        overlap=overlap,
    )
    write_atomically(job_file, job.model_dump_json())
    argv = quick_start("tasks.core.evaluation.entry", str(job_file), str(answer))
    env = _environment(os.environ)
    result = run_child(argv, env=env, cwd=PROJECT, on_line=only_said(on_line), log=log)
    if not result.succeeded:
        raise _explain(result, answer)
    return read_answer(answer, Outcome, error=EvaluationFailed)


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the measuring process: no secret, no network, no progress bars."""
    return {**_QUIET, **child_environment(env), "HF_HUB_OFFLINE": "1"}


def read_outcome(directory: Path) -> Outcome:
    """Return the outcome that `evaluate` wrote into directory. EvaluationFailed without one."""
    return read_answer(directory / OUTCOME, Outcome, error=EvaluationFailed)


def measurement_identity(settings: Evaluate, template: str) -> dict[str, JsonValue]:
    """Return what decides the figures, for a stage key: contents of files, not their names.

    Gate and judge are no part of it: another limit, and another judge, take the same figures.
    Raises DataError when a file cannot be read, MissingTool when lm-eval is needed and not there.
    """
    files = {"conversations": settings.conversations, "prompts": settings.prompts}
    shown: dict[str, JsonValue] = settings.model_dump(
        mode="json", exclude={"gate", "judge", *files, *_BENCHMARK_FIELDS}
    )
    try:
        for path in files.values():
            require_at_rest(path)
        shown |= {name: sha256_of(path) for name, path in files.items()}
        if settings.benchmarks:
            shown |= _benchmarks_identity(settings)
    except OSError as error:
        raise DataError(
            "The evaluation data cannot be read.",
            where=error.filename,
            found=error.strerror,
            next_step="Correct evaluate.conversations, evaluate.prompts and "
            "evaluate.benchmark_tasks in the recipe.",
        ) from error
    return {**shown, "template": template}


_BENCHMARK_FIELDS = ("benchmarks", "benchmark_tasks", "benchmark_limit")


def _benchmarks_identity(settings: Evaluate) -> dict[str, JsonValue]:
    own = settings.benchmark_tasks
    files: list[Path] = []
    if own is not None:
        own.stat()  # an OSError, where a listing of what does not exist is merely empty
        files = [path for path in paths_below(own) if path.is_file()]
    return {
        "lm_eval": lm_eval_version(),
        "benchmarks": list(settings.benchmarks),
        "benchmark_limit": settings.benchmark_limit,
        "benchmark_tasks": digest({str(p.relative_to(own or "")): sha256_of(p) for p in files}),
    }


def _explain(result: ChildResult, answer: Path) -> KawanUsahaError:
    """Return the error that the process left, or what its end tells."""
    if (told := error_left_in(answer)) is not None:
        return told
    advice = {
        Cause.OUT_OF_MEMORY: "Give the machine more memory, evaluate on a GPU, or lower "
        "evaluate.max_length_tokens.",
        Cause.SIGNAL: "Something else ended it; run again.",
    }
    return EvaluationFailed(
        f"The evaluation did not finish: it was {result.cause.value}."
        if result.cause is not Cause.ERROR
        else f"The evaluation ended with code {result.returncode}.",
        where=result.log,
        found="\n    ".join(["", *result.tail[-15:]]),
        next_step=advice.get(result.cause, "The lines above say why."),
    )
