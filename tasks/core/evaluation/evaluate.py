"""Evaluate a chain of models in a process of its own, and say why when that process ends badly."""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import JsonValue

from tasks.core.errors import DataError, EvaluationFailed, KawanUsahaError
from tasks.core.evaluation.figures import EvaluationJob, Outcome, Subject
from tasks.core.files import sha256_of, write_atomically
from tasks.core.process import Cause, ChildResult, run_child
from tasks.core.recipe import Evaluate

OUTCOME = "evaluation.json"
_PROJECT = Path(__file__).parents[3]


def evaluate(
    subjects: Sequence[Subject],
    settings: Evaluate,
    *,
    template: str,
    out: Path,
    on_line: Callable[[str], None] | None = None,
) -> Outcome:
    """Measure each model of the chain against the one before it, and write the outcome to out.

    Writes `evaluation.json` into the existing directory out, whole or not at all. Raises DataError
    for conversations or prompts that cannot be used, EvaluationFailed with the cause when the
    measuring process ends without an outcome.
    """
    with tempfile.TemporaryDirectory(prefix="kawan-usaha-evaluation-") as scratch:
        job = EvaluationJob(
            subjects=tuple(subjects), template=template, settings=settings, scratch=Path(scratch)
        )
        job_file, answer = Path(scratch, "job.json"), Path(scratch, OUTCOME)
        write_atomically(job_file, job.model_dump_json())
        argv = [sys.executable, "-m", "tasks.core.evaluation.entry", str(job_file), str(answer)]
        result = run_child(argv, cwd=_PROJECT, on_line=on_line)
        if not result.succeeded:
            raise _explain(result, answer)
        content = answer.read_bytes()
    write_atomically(out / OUTCOME, content)
    return Outcome.model_validate_json(content)


def read_outcome(directory: Path) -> Outcome:
    """Return the outcome that `evaluate` wrote into directory."""
    return Outcome.model_validate_json((directory / OUTCOME).read_bytes())


def measurement_identity(settings: Evaluate, template: str) -> dict[str, JsonValue]:
    """Return what decides the figures, for a stage key: contents of files, not their names.

    The gate is no part of it: another limit judges the same figures. Raises DataError when a file
    cannot be read.
    """
    shown: dict[str, JsonValue] = settings.model_dump(
        mode="json", exclude={"gate", "conversations", "prompts"}
    )
    try:
        files: dict[str, JsonValue] = {
            "conversations": sha256_of(settings.conversations),
            "prompts": sha256_of(settings.prompts),
        }
    except OSError as error:
        raise DataError(
            "The evaluation data cannot be read.",
            where=error.filename,
            found=error.strerror,
            next_step="Correct evaluate.conversations and evaluate.prompts in the recipe.",
        ) from error
    return {**shown, **files, "template": template}


def _explain(result: ChildResult, answer: Path) -> KawanUsahaError:
    """Return the error that the process left, or what its end tells."""
    if answer.exists():
        parts: dict[str, str] = json.loads(answer.read_bytes())["error"]
        kinds = {cls.__name__: cls for cls in _subclasses(KawanUsahaError)}
        return kinds[parts.pop("error")](parts.pop("what"), **parts)
    advice = {
        Cause.OUT_OF_MEMORY: "Give the machine more memory, evaluate on a GPU, or lower "
        "evaluate.max_length_tokens.",
        Cause.SIGNAL: "Something else ended it; run again.",
    }
    return EvaluationFailed(
        f"The evaluation did not finish: it was {result.cause.value}."
        if result.cause is not Cause.ERROR
        else f"The evaluation ended with code {result.returncode}.",
        found="\n    ".join(["", *result.tail[-15:]]),
        next_step=advice.get(result.cause, "The lines above say why."),
    )


def _subclasses(cls: type[KawanUsahaError]) -> set[type[KawanUsahaError]]:
    return {cls}.union(*(_subclasses(child) for child in cls.__subclasses__()))
