"""Each call of a piece of work fails once: what is told, what is left, what the next try does."""

import errno
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tasks.core.errors import DiskFull, KawanUsahaError, SystemRefused
from tasks.core.files.digests import digest_of
from tasks.explain import explained
from tests.faults.injector import Fault, disturbed

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Work:
    """Something that is done below a directory, by calls that can fail.

    prepare makes the directory what it is before; do is the work; look raises when a reader would
    be misled by what lies there, finished or not; result is what must come of it in the end.
    """

    do: Callable[[Path], object]
    result: Callable[[Path], object]
    prepare: Callable[[Path], None] = lambda _: None
    look: Callable[[Path], None] = lambda _: None
    told_as: tuple[type[KawanUsahaError], ...] = ()
    """Errors that say it in the words of the work, besides those of the system."""


@dataclass
class Survey:
    """How many calls failed, how often the work went on all the same, and what was wrong."""

    failed: int = 0
    went_on: int = 0
    wrong: list[str] = field(default_factory=list)


def survey(
    work: Work, fault: Fault, scratch: Path, *, at_most: int = 60, seed: int = 20261130
) -> Survey:
    """Let each call fail that can; of more than `at_most` some, drawn evenly."""
    wanted, calls = _undisturbed(work, fault, scratch / "undisturbed")
    numbers = list(range(calls))
    if calls > at_most:
        numbers = sorted(random.Random(seed).sample(numbers, at_most))  # noqa: S311 - no secret
    found = Survey()
    for number in numbers:
        root = scratch / "disk"
        root.mkdir(parents=True)
        with disturbed(root, fault):  # nothing is synced there
            work.prepare(root)
        _disturb(work, fault, root, number, wanted=wanted, found=found)
        shutil.rmtree(root)
    return found


def _undisturbed(work: Work, fault: Fault, root: Path) -> tuple[object, int]:
    root.mkdir(parents=True)
    with disturbed(root, fault):
        work.prepare(root)
    with disturbed(root, fault) as calls:
        work.do(root)
    return work.result(root), len(calls.seen)


def _disturb(
    work: Work, fault: Fault, root: Path, number: int, *, wanted: object, found: Survey
) -> None:
    error: Exception | None = None
    with disturbed(root, fault, number) as calls:
        try:
            work.do(root)
        except Exception as raised:  # noqa: BLE001 - whatever it is, a person is told of it
            error = raised
    where = f"{number}: {calls.struck}"
    if error is None:
        found.went_on += 1
    else:
        found.failed += 1
        found.wrong += [f"{where}: {each}" for each in untold(error, fault, root, work.told_as)]
    try:
        work.look(root)
        with disturbed(root, fault):
            work.do(root)
        if work.result(root) != wanted:
            found.wrong.append(f"{where}: the next try ended with something else")
    except Exception as raised:  # noqa: BLE001 - whatever it is, the state was bad
        found.wrong.append(f"{where}: afterwards {type(raised).__name__}: {raised}"[:500])


def untold(
    error: BaseException, fault: Fault, root: Path, told_as: tuple[type[KawanUsahaError], ...] = ()
) -> list[str]:
    """Return what a person is not told by this error: what, where, and the next step."""
    known = explained(error)
    if known is None:
        return [f"nobody explains {type(error).__name__}: {error}"]
    kind: type[KawanUsahaError] = DiskFull if fault.number in _FULL else SystemRefused
    missing = []
    if not isinstance(known, (kind, *told_as)):
        missing.append(f"it is told as {type(known).__name__}: {known.what}")
    if not known.next_step:
        missing.append("no next step")
    if str(root) not in str(known.where):
        missing.append(f"it says where: {known.where!r}")
    return missing


def files_in(directory: Path, *but: str) -> dict[str, str]:
    """Return the bytes of all files in a directory by their digests."""
    found = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(directory)): digest_of(path).sha256
        for path in found
        if path.name not in but
    }
