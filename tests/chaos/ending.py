"""What must not be left once everything was stopped: processes, ports, locks, temporary files."""

import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

import psutil

from tasks.core.files.locks import holders_in
from tasks.core.files.temporary import SCRATCH, TEMPORARY
from tasks.core.hub.download.file import part_of
from tasks.core.process.tree import environment_of
from tests.recovery.processes import is_alive

_TEMPORARY = re.compile(
    "|".join(
        (
            re.escape(TEMPORARY),  # tasks.core.files.temporary
            re.escape(part_of(Path("x")).name.removeprefix("x")) + "$",  # a download's
            r"\.partial$",  # tasks.core.files.output.staged_directory
            r"\.sock(\.\d+)?$",  # supervisord binds `<path>.<its pid>` first
            r"\.pid$",
        )
    )
)
_UNFINISHED = (".staging", ".trash", ".corrupt")
"""Places of the store that hold nothing once all is done."""


def require_nothing_left(root: Path, ports: dict[str, int], locks: Path) -> None:
    """Raise AssertionError for whatever of a home and its runs is left below root, or alive."""
    assert not (left := list(_processes(root))), f"processes are left: {left}"
    bound = {name: port for name, port in ports.items() if _is_bound(port)}
    assert not bound, f"ports are bound: {bound}"
    held = [str(path) for path in _locks(root, locks) if _is_held(path)]
    assert not held, f"locks are held: {held}"
    require_no_temporary(root)


def require_no_temporary(root: Path, *, besides: Path | None = None) -> None:
    """Raise AssertionError for the temporary files that are left below root.

    besides is where Prefect works, which is up: there only our own scratch directories count.
    """
    found = [path for path in _temporary(root) if not path.is_relative_to(besides or "/-")]
    left = sorted(map(str, [*found, *root.glob(f"**/tmp/{SCRATCH}*")]))
    assert not left, f"temporary files are left: {left}"


def require_only_logs(deployment: Path) -> None:
    """Raise AssertionError for what a deployment that was stopped has left besides logs."""
    left = [
        str(path)
        for path in deployment.iterdir()
        if path.name not in ("logs", "failed-logs", "revive.log")
    ]
    assert not left, f"left of the deployment: {left}"


def _processes(root: Path) -> Iterator[str]:
    for process in psutil.process_iter():
        if process.pid == os.getpid() or not is_alive(process):
            continue
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if str(root) in " ".join([*words, *environment_of(process).values()]):
            yield f"{process.pid} {' '.join(words)}"


def _is_bound(port: int) -> bool:
    return any(
        each.status == psutil.CONN_LISTEN and each.laddr.port == port
        for each in psutil.net_connections("tcp")
    )


def _locks(root: Path, locks: Path) -> Iterator[Path]:
    for place in (locks, root):
        for path in place.rglob("*"):
            if path.is_file() and (
                path.parent.name == ".locks" or path.suffix in (".lock", ".build", ".serving")
            ):
                holders_in(path.parent)  # removes what a killed one has left, as `status` does
                yield path


def _is_held(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # removed with its holder
        return False
    return False


def left_in_tmp(root: Path) -> list[Path]:
    """Return what processes have left in TMPDIR, but for the cache of torch."""
    return [path for path in root.glob("tmp/*") if not path.name.startswith("torchinductor_")]


def _temporary(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        if _TEMPORARY.search(path.name) or path.parent.name in _UNFINISHED:
            yield path
    yield from left_in_tmp(root)
    yield from root.glob("*/prefect/tmp")
