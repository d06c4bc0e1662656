"""The measuring process: reads a job file and writes an outcome file.

A process of its own, so that running out of memory costs this step only. The outcome file is
complete or not there at all.
"""

import json
from pathlib import Path

from tasks.core.errors import EvaluationFailed, KawanUsahaError
from tasks.core.evaluation.figures import (
    EvaluationJob,
)
from tasks.core.evaluation.measuring import measure_models
from tasks.core.files.durable import write_atomically
from tasks.core.system.errors import system_error
from tasks.core.system.exhaustion import exhausted_memory

MORE_MEMORY = "Lower evaluate.max_length_tokens, or give the machine more memory."


def main(job_file: str, outcome_file: str) -> int:
    """Measure the models of the job and return the exit code."""
    job, out = EvaluationJob.model_validate_json(Path(job_file).read_bytes()), Path(outcome_file)
    try:
        outcome = measure_models(job)
    except KawanUsahaError as error:
        return _fail(error, out)
    except Exception as error:
        known = _out_of_memory(error) or system_error(error)
        if known is None:
            raise
        return _fail(known, out)
    write_atomically(out, outcome.model_dump_json(indent=1) + "\n")
    return 0


def _out_of_memory(error: Exception) -> EvaluationFailed | None:
    memory = exhausted_memory(error)
    if memory is None:
        return None
    return EvaluationFailed(
        f"The {memory} ran out of memory while a model was being measured.",
        found=f"{type(error).__name__}: {error}".splitlines()[0],
        next_step=MORE_MEMORY,
    )


def _fail(error: KawanUsahaError, outcome_file: Path) -> int:
    write_atomically(outcome_file, json.dumps({"error": error.as_dict()}))
    return error.exit_code
