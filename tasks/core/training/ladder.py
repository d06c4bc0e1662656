"""The out-of-memory ladder: the same training with less memory, a rung at a time.

Covers which settings an attempt takes; the rungs are planning's, the attempt is `finetune`'s. Where
the ladder stands lies in the work of the attempts, so that a retry in another process goes on
there. The invariant: only out-of-memory moves to a lower rung, and the global batch stays
what it was.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.errors import NotAModel, RecipeError, TrainingFailed
from tasks.core.files.durable import write_atomically
from tasks.core.keys import digest
from tasks.core.machine.devices import Alone, MemoryKind, alone_on, require_gpu_memory
from tasks.core.machine.hardware import read_gpus
from tasks.core.planning.rungs import Rung, rungs_of, smallest_gpu
from tasks.core.planning.shape import shape_of
from tasks.core.planning.training_memory import TrainingMemory, training_memory
from tasks.core.progress import OnProgress, silent
from tasks.core.recipe import Finetune
from tasks.core.training.checkpoints import can_go_on, step_of
from tasks.core.training.finetune import FinetuneResult, TrainingStopped, finetune
from tasks.core.training.job import OPERATING, Reason, division_of
from tasks.core.training.result import WORK, StepDown
from tasks.core.training.rung_records import RungRecords
from tasks.core.units import readable

_log = logging.getLogger(__name__)

_STATE = "ladder.json"
_MEMORY: dict[Reason, MemoryKind] = {
    Reason.DEVICE_OUT_OF_MEMORY: "device",
    Reason.HOST_OUT_OF_MEMORY: "host",
}


class SteppedDown(TrainingFailed):
    """Memory ran out, and there is a rung below: the next attempt begins on that."""

    retryable = True


@dataclass(frozen=True)
class LadderResult:
    """A true adapter, the rung that made it, and those above that had not enough memory."""

    trained: FinetuneResult
    rung: Rung
    number: int
    rungs: int
    steps_down: tuple[StepDown, ...]


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    asked: str
    number: int
    steps_down: tuple[StepDown, ...] = ()


def finetune_on_ladder(
    model: Path,
    settings: Finetune,
    *,
    data: Path,
    template: str,
    out: Path,
    home: Path,
    on_progress: OnProgress = silent,
    on_line: Callable[[str], None] | None = None,
    log: Path | None = None,
) -> LadderResult:
    """Train on the rung that is due, and remember it under home when it does.

    It is the only build on its devices; while another one holds them it waits and tells on_line. A
    rung is not remembered when something else was in the memory that ran out on those above it.

    That is the rung below the last one that ran out of memory in out, else the one that worked for
    this model on this machine before, else the first one whose weights a GPU can hold at all. When
    that memory is old and nobody else uses the devices, the rung above it is tried again.
    Raises SteppedDown when the memory ran out and a lower rung is left, and whatever `finetune`
    raises otherwise.
    """
    ladder = rungs_of(settings)
    records = RungRecords.of(home, model, settings)
    file = out / WORK / _STATE
    say = on_line or _log.info
    with alone_on(settings.device, _gpus(settings), f"fine-tune of {model}", say=say) as devices:
        state = _read(file, settings) or _start(ladder, settings, records, model, devices)
        rung = ladder[state.number - 1]
        if state.number > 1:
            say(f"Rung {state.number} of {len(ladder)}, {rung.name}: {rung.changes}.")
        require_gpu_memory(settings.device, _gpus(settings), _gpu_bytes(rung, model))
        try:
            trained = finetune(
                model,
                rung.settings,
                data=data,
                template=template,
                out=out,
                grouped_as=settings,
                on_progress=on_progress,
                on_line=on_line,
                log=log,
            )
        except TrainingStopped as stop:
            number = _next(ladder, state.number, stop.reason, model)
            if number is None:
                raise
            others = devices.others(_MEMORY[stop.reason])
            step = StepDown(
                rung=rung.name, reason=stop.reason, kept_step=_kept(stop), alone=not others
            )
            steps = (*state.steps_down, step)
            state = state.model_copy(update={"number": number, "steps_down": steps})
            write_atomically(file, state.model_dump_json())
            raise _stepped_down(ladder, number, rung, stop, others) from stop
    _remember(records, rung, state)
    return LadderResult(trained, rung, state.number, len(ladder), state.steps_down)


def finetune_down_the_ladder(
    model: Path,
    settings: Finetune,
    *,
    data: Path,
    template: str,
    out: Path,
    home: Path,
    on_progress: OnProgress = silent,
    on_line: Callable[[str], None] | None = None,
    log: Path | None = None,
) -> LadderResult:
    """Train, going down a rung each time that the memory runs out. Raises what `finetune` does."""
    while True:
        try:
            return finetune_on_ladder(
                model,
                settings,
                data=data,
                template=template,
                out=out,
                home=home,
                on_progress=on_progress,
                on_line=on_line,
                log=log,
            )
        except SteppedDown as stepped:
            _log.warning("%s", stepped)


def _start(
    ladder: Sequence[Rung], settings: Finetune, records: RungRecords, model: Path, devices: Alone
) -> _State:
    names = [rung.name for rung in ladder]
    kept, number = records.recall(), _first_possible(ladder, model)
    if kept is not None and kept.rung in names[number:]:
        number = names.index(kept.rung) + 1
        if kept.is_doubted and not devices.anyone_else():
            number -= 1
            _log.info("Tries rung %d again: rung %d worked some time ago.", number, number + 1)
        else:
            _log.info("Begins on rung %d, which worked here before (%s).", number, records.file)
    return _State(asked=_digest(settings), number=number)


def _remember(records: RungRecords, rung: Rung, state: _State) -> None:
    """Note the rung that worked, unless something else was in the memory that others lacked."""
    if not all(step.alone for step in state.steps_down):
        return
    if state.number == 1:
        records.forget()
    elif state.steps_down:
        records.keep(rung.name, above_was_short=True)
    elif (kept := records.recall()) is not None and kept.rung != rung.name:
        records.keep(rung.name, above_was_short=False)


def _first_possible(ladder: Sequence[Rung], model: Path) -> int:
    """Return the first rung whose weights alone fit a GPU, 1 where none is or nothing is known.

    To try the ones above would only cost the loading of the model, a rung each.
    """
    settings = ladder[0].settings
    if settings.device == "cpu" or settings.hostfile is not None:
        return 1
    gpu, needs = smallest_gpu(read_gpus()[0], settings), _needs(ladder, model)
    if gpu is None or needs is None:
        return 1
    weights = [sum(term.bytes for term in need.gpu if term.name == "weights") for need in needs]
    first = next((number for number, held in enumerate(weights, 1) if held <= gpu.memory_bytes), 1)
    if first > 1:
        _log.info(
            "Begins on rung %d, %s: above it %s of weights do not fit into a GPU of %s.",
            first,
            ladder[first - 1].name,
            readable(weights[0]),
            readable(gpu.memory_bytes),
        )
    return first


def _read(file: Path, settings: Finetune) -> _State | None:
    """Return where an earlier attempt with these settings left the ladder."""
    try:
        state = _State.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
    return state if state.asked == _digest(settings) else None


def _digest(settings: Finetune) -> str:
    return digest(settings.model_dump(mode="json", exclude={"data", *OPERATING}))


def _next(ladder: Sequence[Rung], number: int, reason: Reason, model: Path) -> int | None:
    """Return the number of the next rung that needs less of what ran out, None without one."""
    if reason not in _MEMORY:
        return None
    below = range(number + 1, len(ladder) + 1)
    needs = _needs(ladder, model)
    if needs is None:
        return next(iter(below), None)
    device = reason is Reason.DEVICE_OUT_OF_MEMORY
    short = [need.gpu_bytes if device else need.host_bytes for need in needs]
    return next((lower for lower in below if short[lower - 1] < short[number - 1]), None)


def _needs(ladder: Sequence[Rung], model: Path) -> list[TrainingMemory] | None:
    """Return what each rung needs, None for a model that cannot be planned."""
    try:
        shape = shape_of(model)
        return [training_memory(shape, rung.settings) for rung in ladder]
    except (NotAModel, RecipeError):
        return None


def _gpus(settings: Finetune) -> int | None:
    """Return how many of the visible GPUs are used; with a hostfile any of them may be."""
    return settings.processes if settings.hostfile is None else None


def _gpu_bytes(rung: Rung, model: Path) -> int | None:
    needs = _needs([rung], model)
    return None if needs is None else needs[0].gpu_bytes


def _kept(stop: TrainingStopped) -> int | None:
    return step_of(stop.checkpoint) if stop.checkpoint else None


def _stepped_down(
    ladder: Sequence[Rung],
    number: int,
    above: Rung,
    stop: TrainingStopped,
    others: Sequence[str],
) -> SteppedDown:
    rung = ladder[number - 1]
    changes = f"{rung.changes[0].upper()}{rung.changes[1:]}."
    beside = f"Not to be remembered: {', '.join(others)} used the memory too." if others else ""
    if stop.checkpoint is None:
        onward = "It starts over: no checkpoint was due yet."
    elif can_go_on(stop.checkpoint, division_of(rung.settings)):
        onward = f"It resumes from step {step_of(stop.checkpoint)}."
    else:
        onward = "It starts over: 16 bits without ZeRO keep their states to themselves."
    return SteppedDown(
        f"{stop.reason.value[0].upper()}{stop.reason.value[1:]} ({above.name}). "
        f"Next: rung {number} of {len(ladder)}, {rung.name}.",
        where=stop.where,
        expected=f"it saves {rung.saves}; it costs {rung.costs}",
        found=stop.found,
        next_step=" ".join(filter(None, (changes, onward, beside))),
    )
