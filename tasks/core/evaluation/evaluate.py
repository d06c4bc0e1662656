"""Evaluate models in separate processes, and explain how one of them failed."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from tasks.core.conversation.checking.leaks import Overlap
from tasks.core.conversation.tokenizer.model_limits import check_length, check_token_ids
from tasks.core.errors import DataError, EvaluationFailed, KawanUsahaError
from tasks.core.evaluation.benchmarks import lm_eval_version, run_benchmarks
from tasks.core.evaluation.figures import (
    Benchmark,
    EvaluationJob,
    EvaluationOutcome,
    Subject,
)
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
LENGTH_SETTING = "evaluate.max_length_tokens"
_QUIET = {"TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
"""No progress bars in a log. Variables that the user has set take precedence."""
WITH_ACTIVATIONS = 1.2
"""Roughly, the GPU memory that measuring a model takes, as a multiple of its weights."""


def evaluate_models(
    subjects: Sequence[Subject],
    settings: Evaluate,
    *,
    template: str,
    out: Path,
    overlap: Overlap | None = None,
    on_line: Callable[[str], None] | None = None,
    log: Path | None = None,
) -> EvaluationOutcome:
    """Measure the models, each against those that it names; write `evaluation.json` into out.

    overlap: the held-out conversations that are also in the training data; the outcome says which
    of them were measured. Benchmarks, if any, run for the last model and those that it is compared
    with. on_line gets the progress lines; the file log gets all output of the processes. Waits for
    other builds on the same devices, and reports that to on_line. The file is complete or not there
    at all.

    Raises what `check_model` raises, TemplateMismatch when the last model was trained with another
    template, DataError for conversations or prompts that cannot be used, MissingTool for benchmarks
    without lm-eval, EvaluationFailed with the cause when a process ends without an outcome,
    DeviceBusy when a deployment leaves too little GPU memory.
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
        require_gpu_memory(settings.device, None, _needed_bytes_per_gpu(subjects, settings))
        job = EvaluationJob(
            subjects=tuple(subjects),
            template=template,
            settings=settings,
            scratch=work,
            overlap=overlap,
        )
        outcome = _measure(job, on_line, log)
        if settings.benchmarks:
            results = _run_benchmarks(job, on_line, log)
            outcome = outcome.model_copy(update={"benchmarks": results})
    write_atomically(out / OUTCOME, outcome.model_dump_json(indent=1) + "\n")
    return outcome


def _check_limits(subject: Subject, settings: Evaluate, *, compared: bool) -> tuple[str, ...]:
    """Return warnings about the model's limits, except those of its tokenizer."""
    config, name = read_config(subject.path), f"{subject.role} ({subject.path})"
    check_token_ids(config, where=subject.path)
    length_tokens = settings.max_length_tokens
    return check_length(
        config, length_tokens, setting=LENGTH_SETTING, model=name, compared=compared
    )


def require_template(
    subjects: Sequence[Subject], template: str, say: Callable[[str], None]
) -> None:
    """Raise TemplateMismatch when the last model, the one to release, has another template.

    For the models that it is compared with, such as the base of a fine-tune with a new template,
    a line to `say` is enough.
    """
    template_for(subjects[-1].path, template)
    for subject in subjects[:-1]:
        own = recorded_template(subject.path)
        if own not in (None, template):
            say(
                f"{subject.role} was trained with the template {own}, and is measured in {template}"
            )


def _needed_bytes_per_gpu(subjects: Sequence[Subject], settings: Evaluate) -> int | None:
    """Return roughly how much of each GPU the largest model takes."""
    gpus = len(read_gpu_use()) if settings.device == "cuda" else 0
    if gpus == 0:
        return None
    largest = max(read_index(subject.path).total_bytes for subject in subjects)
    return int(WITH_ACTIVATIONS * largest / gpus)


def _measure(
    job: EvaluationJob, on_line: Callable[[str], None] | None, log: Path | None
) -> EvaluationOutcome:
    job_file, answer = job.scratch / "job.json", job.scratch / OUTCOME
    write_atomically(job_file, job.model_dump_json())
    argv = quick_start("tasks.core.evaluation.entry", str(job_file), str(answer))
    env = _environment(os.environ)
    result = run_child(argv, env=env, cwd=PROJECT, on_line=only_said(on_line), log=log)
    if not result.succeeded:
        raise _explain(result, answer)
    return read_answer(answer, EvaluationOutcome, error=EvaluationFailed)


def _run_benchmarks(
    job: EvaluationJob, on_line: Callable[[str], None] | None, log: Path | None
) -> tuple[Benchmark, ...]:
    """Return the benchmarks of the last model and of those that it is compared with."""
    last = job.subjects[-1]
    compared = [s for s in job.subjects if s is last or s.role in last.against]
    env = {**_QUIET, **child_environment(os.environ, *NETWORK)}
    results = [
        run_benchmarks(
            subject, job.settings, scratch=job.scratch, env=env, on_line=on_line, log=log
        )
        for subject in compared
    ]
    return sum(results, ())


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the measuring process: no secrets, network or progress bars."""
    return {**_QUIET, **child_environment(env), "HF_HUB_OFFLINE": "1"}


def read_evaluation(directory: Path) -> EvaluationOutcome:
    """Return the outcome in a directory. Raises EvaluationFailed where there is none."""
    return read_answer(directory / OUTCOME, EvaluationOutcome, error=EvaluationFailed)


def measurement_identity(settings: Evaluate, template: str) -> dict[str, JsonValue]:
    """Return what determines the figures, for a stage key: contents of files, not their names.

    Without gate and judge: another limit or another judge uses the same figures. Raises DataError
    when a file cannot be read, MissingTool when lm-eval is needed but not installed.
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
        own.stat()  # raises where the directory is missing; listing it would find nothing
        files = [path for path in paths_below(own) if path.is_file()]
    return {
        "lm_eval": lm_eval_version(),
        "benchmarks": list(settings.benchmarks),
        "benchmark_limit": settings.benchmark_limit,
        "benchmark_tasks": digest({str(p.relative_to(own or "")): sha256_of(p) for p in files}),
    }


def _explain(result: ChildResult, answer: Path) -> KawanUsahaError:
    """Return the error that the process wrote, or one that describes how it ended."""
    if (error := error_left_in(answer)) is not None:
        return error
    advice = {
        Cause.OUT_OF_MEMORY: "Give the machine more memory, evaluate on a GPU, or lower "
        "evaluate.max_length_tokens.",
        Cause.SIGNAL: "Something else ended the process; run again.",
    }
    return EvaluationFailed(
        f"The evaluation did not finish: it was {result.cause.value}."
        if result.cause is not Cause.ERROR
        else f"The evaluation ended with code {result.returncode}.",
        where=result.log,
        found="\n    ".join(["", *result.tail[-15:]]),
        next_step=advice.get(result.cause, "See the lines above for the cause."),
    )
