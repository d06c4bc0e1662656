"""`python -m tests.unit.training.shows_arguments OUT JOB...`: what the entry makes of the jobs."""

import json
import sys
from pathlib import Path

from tasks.core.training.entry import _arguments, _leave_uncompiled
from tasks.core.training.job import TrainingJob


def main(out: str, *files: str) -> None:
    """Write the arguments of each job, as TrainingArguments tells them, into one file."""
    jobs = [TrainingJob.model_validate_json(Path(file).read_bytes()) for file in files]
    _leave_uncompiled(jobs[0].settings)
    shown = [_arguments(job).to_dict() for job in jobs]
    Path(out).write_text(json.dumps(shown, default=str), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
