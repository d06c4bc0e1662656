"""`python -m tests.unit.training.trains MODEL DATA OUT SETTINGS`: train, and print what is said."""

import sys
from pathlib import Path

from tasks.core.recipe import Finetune
from tasks.core.training.attempt import run_attempt
from tasks.core.training.launch import start
from tasks.core.training.request import TrainingRequest


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def main(model: str, data: str, out: str, settings: str) -> None:
    """Run one attempt with settings that are given as JSON."""
    start.TRAINING_GRACE_S = 600.0  # what is kept is tested, not how fast the disk is
    told = Finetune.model_validate_json(settings)
    places = Path(model), told, Path(data), "vicuna_v1.1", Path(out)
    run_attempt(TrainingRequest(*places, on_line=_say))


if __name__ == "__main__":
    main(*sys.argv[1:])
