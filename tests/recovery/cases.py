"""The cases: each strikes a run of its own, waits until it is Completed, and returns a row."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import UUID

from tests.memory_group import memory_group
from tests.recovery.causes import EXCEPTIONS
from tests.recovery.machine import SIDE_BY_SIDE, Machine, wait_for, write_recipe
from tests.recovery.redone import Again, Struck, redone
from tests.recovery.strikes import FINETUNE, Moment, Strike, cancel, held_back, starve

_LIMIT_BYTES = 1 << 20
_ENDS = ("COMPLETED", "FAILED", "CANCELLED")


@dataclass(frozen=True)
class Row:
    """What came of a case. `seconds` are from the strike, or the new start, to the end.

    `same` may say why the bits are others.
    """

    struck: str
    came_back: str
    redone: Again
    seconds: float
    same: bool | str

    def __str__(self) -> str:
        """Return it as a row of a table in Markdown."""
        same = self.same if isinstance(self.same, str) else "yes" if self.same else "**no**"
        cells = (self.struck, self.came_back, self.redone.words, f"{self.seconds:.0f}", same)
        return f"| {' | '.join(cells)} |"


HEAD = "| struck | came back by | done again | seconds | same bits |\n|---|---|---|---:|---|"


def killed(machine: Machine, what: str, moment: Moment, strike: Strike) -> Row:
    """Strike a run in a stage, and wait until it is Completed without anybody doing anything."""
    with held_back(machine, moment):
        run, struck = _begun(machine, moment)
        strike(machine, run)
    wait_for(machine.ended(run, *_ENDS), f"the run after: {what}")
    seconds = time.time() - struck.at
    return Row(
        f"{what}, in {moment.stage}",
        _chain(machine, run, struck.at),
        redone(machine, struck),
        seconds,
        _same(machine, run),
    )


def cancelled(machine: Machine, moment: Moment) -> Row:
    """Cancel a run in a stage, and start another one."""
    with held_back(machine, moment):
        run, struck = _begun(machine, moment)
        gone_s, said_s = cancel(machine, run)
    state = machine.states(run)[-1].name
    again = machine.start()
    wait_for(machine.ended(again, *_ENDS), f"the run after a cancel in {moment.stage}")
    return Row(
        f"cancel, in {moment.stage}: nothing alive after {gone_s:.1f} s, {state} after "
        f"{said_s:.1f} s",
        "a new run",
        redone(machine, struck),
        time.time() - struck.at,
        _same(machine, again),
    )


def failed(machine: Machine) -> Iterator[Row]:
    """Let every stage of one run fail, one after the other, and take it up again each time."""
    for name in EXCEPTIONS:
        machine.forget(name)
    machine.forget("leaks")
    write_recipe(machine.world, machine.prefect.root, "kawan-usaha/struck")
    causes = {stage: ExitStack() for stage in EXCEPTIONS}
    for stage, (_, cause) in EXCEPTIONS.items():
        causes[stage].enter_context(cause(machine))
    run = machine.start(until="deploy")
    for stage, (why, _) in EXCEPTIONS.items():
        wait_for(machine.ended(run, *_ENDS), f"the failure of {stage}")
        if not machine.ended(run, "FAILED")():
            raise AssertionError(f"{stage} did not fail: {machine.states(run)[-1]}")
        struck = Struck.now(machine, stage, time.time())
        causes[stage].close()
        run, how = _again(machine, run, stage)
        yield Row(
            f"exception in {stage}: {why}",
            how,
            redone(machine, struck),
            time.time() - struck.at,
            _same_so_far(machine),
        )


def starved(machine: Machine) -> Row:
    """Let the kernel kill the training for its memory, and wait until the run is Completed."""
    with memory_group(_LIMIT_BYTES) as group:
        run, struck = _begun(machine, FINETUNE)
        starve(machine, group)
        wait_for(machine.ended(run, *_ENDS), "the run after an out-of-memory kill")
    (made,) = (m for name, m in machine.manifests().items() if name.startswith("finetune-"))
    return Row(
        "the training, by the kernel: out of memory",
        f"a retry of its task, on the rung `{made.facts['rung']}`",
        redone(machine, struck),
        time.time() - struck.at,
        _same(machine, run)
        or (_completed(machine, run) and "no: smaller micro batches are summed in another order"),
    )


def together(machine: Machine) -> Row:
    """Start two runs at once that both have to train, and see what the later one says of it."""
    machine.forget("finetune")
    began_at = time.time()
    struck = Struck.now(machine, "finetune", began_at)
    runs = [machine.start(SIDE_BY_SIDE), machine.start(SIDE_BY_SIDE)]
    for run in runs:
        wait_for(machine.ended(run, *_ENDS), "two runs at once")
    said = [line for run in runs for line in machine.lines(run) if line.startswith("Waiting for")]
    return Row(
        "nothing: two runs at once",
        f"the later one: {said[0]}" if said else "**it waited without a word**",
        redone(machine, struck),
        time.time() - began_at,
        all(_same(machine, run) for run in runs),
    )


def _again(machine: Machine, run: UUID, stage: str) -> tuple[UUID, str]:
    """Take up a failed run; return the run to look at, once this attempt has ended."""
    if stage == "edit":
        words = ("rebuild", str(machine.recipe), "--from", stage, "--until", "deploy")
        machine.prefect.kawan_usaha(*words, PREFECT_API_URL=machine.api)
        return run, "`rebuild --from edit`"
    if stage == "merge":
        run, how = machine.start(until="deploy"), "a new run"
    else:
        before = len(machine.states(run))
        machine.retry(run)
        wait_for(lambda: len(machine.states(run)) > before + 1, "the retry to begin")
        how = "Retry"
    wait_for(machine.ended(run, *_ENDS), f"the attempt after a failure of {stage}")
    return run, how


def _begun(machine: Machine, moment: Moment) -> tuple[UUID, Struck]:
    """Start a run that has only this stage to do; return it once the moment is there."""
    machine.forget(moment.stage)
    run = machine.start(env=dict(moment.env))
    wait_for(lambda: machine.staging(moment.stage) is not None, f"{moment.stage} to begin")
    began_at = time.time()
    wait_for(lambda: moment.is_now(machine), f"the moment in {moment.stage}")
    return run, Struck.now(machine, moment.stage, began_at)


def _chain(machine: Machine, run: UUID, since: float) -> str:
    """Return the states that the run went through since then, with their seconds."""
    after = [(s.name, s.timestamp.timestamp() - since) for s in machine.states(run)]
    told = [f"{name} {at:.0f} s" for name, at in after if at > 0 and name in _TOLD]
    return "; ".join(told) if len(told) > 1 else f"it went on; {told[0]}"


_TOLD = ("Crashed", "AwaitingRetry", "Completed", "Failed", "Cancelled")


def _completed(machine: Machine, run: UUID) -> bool:
    return bool(machine.states(run)[-1].type.value == "COMPLETED")


def _same(machine: Machine, run: UUID) -> bool:
    return (
        _completed(machine, run)
        and _same_so_far(machine)
        and all(name in machine.manifests() for name in filter(_is_model, machine.digests))
    )


def _same_so_far(machine: Machine) -> bool:
    """Return whether all artifacts that are there have the bytes of the undisturbed run."""
    made = machine.manifests()
    return all(made[n].content_digest == machine.digests.get(n) for n in made if _is_model(n))


def _is_model(artifact: str) -> bool:
    """Return whether an artifact can be compared: evaluation and verdict hold measured seconds."""
    return not artifact.startswith(("evaluate-", "gate-"))
