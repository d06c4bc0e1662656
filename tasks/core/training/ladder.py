"""The out-of-memory ladder: the same training with less memory, one rung at a time.

Decides which rung an attempt trains on; `planning.rungs` defines the rungs, `attempt` trains. The
ladder's position is a file in the work of the attempts, so that a retry in another process resumes
there. The invariant: only running out of memory moves to a lower rung, and the global batch never
changes.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.errors import TrainingFailed
from tasks.core.files.durable import write_atomically
from tasks.core.keys import digest
from tasks.core.machine.devices import Alone, MemoryKind, alone_on, require_gpu_memory
from tasks.core.planning.rungs import Rung, rungs_of
from tasks.core.recipe import Finetune
from tasks.core.training.attempt import TrainedAdapter, run_attempt
from tasks.core.training.checkpoints.directory import can_resume, step_of
from tasks.core.training.failures import StopReason, TrainingStopped
from tasks.core.training.job import OPERATING, division_of
from tasks.core.training.request import TrainingRequest
from tasks.core.training.result import StepDown
from tasks.core.training.rung_choice import first_possible, gpu_bytes_of, next_rung
from tasks.core.training.rung_records import RungRecords

_log = logging.getLogger(__name__)

_POSITION = "ladder.json"
_MEMORY: dict[StopReason, MemoryKind] = {
    StopReason.DEVICE_OUT_OF_MEMORY: "device",
    StopReason.HOST_OUT_OF_MEMORY: "host",
}


class SteppedDown(TrainingFailed):
    """Memory ran out, and there is a lower rung: the next attempt trains on that."""

    retryable = True


@dataclass(frozen=True)
class LadderResult:
    """A verified adapter, the rung that it was trained on, and the steps down before it."""

    trained: TrainedAdapter
    rung: Rung
    number: int
    rungs: int
    steps_down: tuple[StepDown, ...]


class _Position(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    asked: str
    number: int
    steps_down: tuple[StepDown, ...] = ()


def train_on_due_rung(request: TrainingRequest, home: Path) -> LadderResult:
    """Train on the rung that is due, and record under home that it had enough memory.

    The rung that is due is the one below the last that ran out of memory in request.out; else the
    recorded one, which worked for this model on this machine before; else the first whose weights
    fit a GPU at all. If the record is old and nobody else uses the devices, the rung above it is
    tried again.

    The training is the only build on its devices; while another one holds them it waits and reports
    that to request.on_line. A rung is not recorded if somebody else used the memory that ran out
    above it. Raises SteppedDown when memory ran out and a lower rung is left, and otherwise
    whatever `run_attempt` raises.
    """
    settings, model = request.settings, request.model
    rungs = rungs_of(settings)
    records = RungRecords.of(home, model, settings)
    file = request.work / _POSITION
    device, gpus, work = settings.device, _gpus(settings), f"fine-tune of {model}"
    with alone_on(device, gpus, work, say=request.on_line) as devices:
        position = _read(file, settings) or _start(rungs, settings, records, model, devices)
        rung = rungs[position.number - 1]
        if position.number > 1:
            request.on_line(f"Rung {position.number} of {len(rungs)}, {rung.name}: {rung.changes}.")
        require_gpu_memory(device, gpus, gpu_bytes_of(rung, model))
        try:
            trained = run_attempt(request, rung.settings)
        except TrainingStopped as stop:
            stepped = _step_down(stop, rungs, position, file=file, model=model, devices=devices)
            if stepped is None:
                raise
            raise stepped from stop
    _record(records, rung, position)
    return LadderResult(trained, rung, position.number, len(rungs), position.steps_down)


def train_down_the_ladder(request: TrainingRequest, home: Path) -> LadderResult:
    """Train, a rung lower each time that memory runs out. Raises what `run_attempt` raises."""
    while True:
        try:
            return train_on_due_rung(request, home)
        except SteppedDown as stepped:
            _log.warning("%s", stepped)


def _start(
    rungs: Sequence[Rung], settings: Finetune, records: RungRecords, model: Path, devices: Alone
) -> _Position:
    names = [rung.name for rung in rungs]
    recorded, number = records.recall(), first_possible(rungs, model)
    if recorded is not None and recorded.rung in names[number:]:
        number = names.index(recorded.rung) + 1
        if recorded.is_doubted and not devices.anyone_else():
            number -= 1
            _log.info("Trying rung %d again: rung %d worked some time ago.", number, number + 1)
        else:
            _log.info("Starting on rung %d, which worked here before (%s).", number, records.file)
    return _Position(asked=_digest(settings), number=number)


def _record(records: RungRecords, rung: Rung, position: _Position) -> None:
    """Record the rung that worked, unless somebody else used the memory that ran out above it."""
    if not all(step.alone for step in position.steps_down):
        return
    if position.number == 1:
        records.forget()
    elif position.steps_down:
        records.keep(rung.name, above_was_short=True)
    elif (recorded := records.recall()) is not None and recorded.rung != rung.name:
        records.keep(rung.name, above_was_short=False)


def _read(file: Path, settings: Finetune) -> _Position | None:
    """Return the position that an earlier attempt with these settings left."""
    try:
        position = _Position.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
    return position if position.asked == _digest(settings) else None


def _digest(settings: Finetune) -> str:
    return digest(settings.model_dump(mode="json", exclude={"data", *OPERATING}))


def _gpus(settings: Finetune) -> int | None:
    """Return how many of the visible GPUs are used; with a hostfile it may be any of them."""
    return settings.processes if settings.hostfile is None else None


def _step_down(
    stop: TrainingStopped,
    rungs: Sequence[Rung],
    position: _Position,
    *,
    file: Path,
    model: Path,
    devices: Alone,
) -> SteppedDown | None:
    """Write the next position; return None for another reason, or if no lower rung is left."""
    memory = _MEMORY.get(stop.reason)
    if memory is None:
        return None
    number = next_rung(rungs, position.number, memory, model)
    if number is None:
        return None
    above, others = rungs[position.number - 1], devices.others(memory)
    kept_step = step_of(stop.checkpoint) if stop.checkpoint else None
    step = StepDown(rung=above.name, reason=stop.reason, kept_step=kept_step, alone=not others)
    steps = (*position.steps_down, step)
    position = position.model_copy(update={"number": number, "steps_down": steps})
    write_atomically(file, position.model_dump_json())
    return _stepped_down(rungs, number, above, stop, others)


def _stepped_down(
    rungs: Sequence[Rung], number: int, above: Rung, stop: TrainingStopped, others: Sequence[str]
) -> SteppedDown:
    rung = rungs[number - 1]
    changes = f"{rung.changes[0].upper()}{rung.changes[1:]}."
    beside = f"Not recorded: {', '.join(others)} used the memory too." if others else ""
    if stop.checkpoint is None:
        onward = "It starts over: no checkpoint was due yet."
    elif can_resume(stop.checkpoint, division_of(rung.settings)):
        onward = f"It resumes from step {step_of(stop.checkpoint)}."
    else:
        onward = "It starts over: 16 bits without ZeRO leave no state for another ZeRO stage."
    return SteppedDown(
        f"{stop.reason.value[0].upper()}{stop.reason.value[1:]} ({above.name}). "
        f"Next: rung {number} of {len(rungs)}, {rung.name}.",
        where=stop.where,
        expected=f"it saves {rung.saves}; it costs {rung.costs}",
        found=stop.found,
        next_step=" ".join(filter(None, (changes, onward, beside))),
    )
