"""Real causes for a stage to fail with an exception, each of which can be taken away again."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.hub_faults import Refuse
from tests.recovery.machine import Machine

Cause = Callable[[Machine], AbstractContextManager[None]]
_ALWAYS = 1_000_000


@contextmanager
def missing_source(machine: Machine) -> Iterator[None]:
    """The file with the held-out conversations has gone."""
    file = machine.world.root / "held_out.json"
    gone = file.rename(file.with_suffix(".gone"))
    yield
    gone.rename(file)


@contextmanager
def refused_weights(machine: Machine) -> Iterator[None]:
    """The Hub gives out no weights of the base any more."""
    with _refusing(machine, "base/resolve/.*safetensors", "GET"):
        yield


@contextmanager
def refused_upload(machine: Machine) -> Iterator[None]:
    """The Hub takes no commit."""
    with _refusing(machine, "struck.*commit", "POST"):
        yield


def blocked(stage: str) -> Cause:
    """Return the cause that the system gives the stage no directory: a file has its name."""

    @contextmanager
    def cause(machine: Machine) -> Iterator[None]:
        (name,) = (each for each in machine.digests if each.startswith(f"{stage}-"))
        staging = machine.home / "store/.staging"
        staging.mkdir(exist_ok=True)
        (staging / name).write_text("not a directory")
        yield
        (staging / name).unlink()

    return cause


@contextmanager
def blocked_deployment(machine: Machine) -> Iterator[None]:
    """The deployment's directory cannot be made: a file has its name."""
    serving = machine.home / "serving"
    serving.mkdir(exist_ok=True)
    file = serving / machine.recipe.stem
    file.write_text("not a directory")
    yield
    file.unlink()


EXCEPTIONS: dict[str, tuple[str, Cause]] = {
    "plan": ("a data file has gone", missing_source),
    "download": ("the Hub answers 403", refused_weights),
    "merge": ("its directory cannot be made", blocked("merge")),
    "edit": ("its directory cannot be made", blocked("edit")),
    "prepare": ("its directory cannot be made", blocked("prepare")),
    "finetune": ("its directory cannot be made", blocked("finetune")),
    "fuse": ("its directory cannot be made", blocked("fuse")),
    "evaluate": ("its directory cannot be made", blocked("evaluate")),
    "gate": ("its directory cannot be made", blocked("gate")),
    "publish": ("the Hub answers 403", refused_upload),
    "deploy": ("its directory cannot be made", blocked_deployment),
}
"""By the stage that each of them strikes, in the order of the stages."""


@contextmanager
def _refusing(machine: Machine, path: str, method: str) -> Iterator[None]:
    refuse = Refuse(403, "no longer yours")
    machine.world.faults.add(refuse, path, method=method, times=_ALWAYS)
    yield
    machine.world.faults.plans.remove(refuse)
