"""One fine-tune as it was asked for: handed from the caller through the ladder to each attempt."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.core.progress import OnProgress, silent
from tasks.core.recipe import Finetune
from tasks.core.training.result import ADAPTER, WORK_DIRECTORY

_log = logging.getLogger(__name__)


def _logged(line: str) -> None:
    _log.info("%s", line)


@dataclass(frozen=True)
class TrainingRequest:
    """What to train, on which data, where to, and who gets its messages.

    model: a model directory. settings: as asked for; a lower rung trains with others. data: a
    conversation file, or a directory of prepared examples. out: an existing directory, for the
    adapter and for the work that an interrupted attempt resumes from.

    on_progress counts steps. on_line gets the training's messages, one line each. The file `log`
    gets everything that the training processes print.
    """

    model: Path
    settings: Finetune
    data: Path
    template: str
    out: Path
    on_progress: OnProgress = silent
    on_line: Callable[[str], None] = _logged
    log: Path | None = None

    @property
    def adapter(self) -> Path:
        """Where the adapter is written, absolute."""
        return self.out.resolve() / ADAPTER

    @property
    def work(self) -> Path:
        """The directory of the job, its checkpoints and its outcome, absolute."""
        return self.out.resolve() / WORK_DIRECTORY

    @property
    def job_file(self) -> Path:
        """The job file that the training processes read."""
        return self.work / "job.json"
