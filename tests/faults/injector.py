"""One call of this process that fails as the system would let it fail.

Counts what Python does with the files below a directory, and lets the n-th such call end with an
error number. Calls of compiled libraries are not seen: for these there is `small_disk.py`.
"""

import builtins
import errno
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

_ON_PATHS = {
    "make": ("mkdir", "link", "symlink", "rename", "replace", "truncate"),
    "remove": ("unlink", "remove", "rmdir"),
    "list": ("listdir", "scandir"),
}
_ON_FILES = {
    "write": ("write", "pwrite", "writev", "pwritev", "ftruncate"),
    "read": ("read", "pread", "readv", "preadv"),
    "sync": ("fsync", "fdatasync"),
}
_CREATES = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True)
class Fault:
    """An error number, and the kinds of calls that can end with it."""

    number: int
    kinds: frozenset[str]


DISK_FULL = Fault(errno.ENOSPC, frozenset({"create", "make", "write", "sync"}))
OVER_QUOTA = Fault(errno.EDQUOT, DISK_FULL.kinds)
FAILING_DISK = Fault(errno.EIO, frozenset({*DISK_FULL.kinds, "open", "read", "list", "remove"}))
LOST_PERMISSION = Fault(errno.EACCES, frozenset({"create", "make", "open", "list", "remove"}))
READ_ONLY = Fault(errno.EROFS, frozenset({"create", "make", "remove"}))
NO_DESCRIPTORS = Fault(errno.EMFILE, frozenset({"create", "open", "list"}))


@dataclass
class Calls:
    """The calls that could have failed so far, and the one that did."""

    seen: list[str] = field(default_factory=list)
    struck: str | None = None


@contextmanager
def disturbed(root: Path, fault: Fault, at: int | None = None) -> Iterator[Calls]:
    """Let call number `at` of the block below root fail, none without a number."""
    injector = _Injector(root, fault, at)
    with ExitStack() as patches:
        for kind, names in _ON_PATHS.items():
            for name in names:
                call = injector.on_paths(kind, name, getattr(os, name))
                patches.enter_context(patch.object(os, name, call))
        for kind, names in _ON_FILES.items():
            for name in names:
                call = injector.on_file(kind, name, getattr(os, name))
                patches.enter_context(patch.object(os, name, call))
        patches.enter_context(patch.object(os, "open", injector.opening(os.open)))
        patches.enter_context(patch.object(os, "sendfile", injector.sending(os.sendfile)))
        opens = injector.file_object(io.open)
        for module in (io, builtins):
            patches.enter_context(patch.object(module, "open", opens))
        yield injector.calls


class _Injector:
    def __init__(self, root: Path, fault: Fault, at: int | None) -> None:
        self.calls = Calls()
        self._root, self._fault, self._at = str(root.resolve()), fault, at
        self._lock = threading.Lock()

    def strike(self, kind: str, name: str, *paths: str | None, told: bool) -> None:
        """Count a call, and raise if it is its turn. `told`: the system names the path."""
        found = [path for path in paths if path is not None]
        if kind not in self._fault.kinds or not found:
            return
        with self._lock:
            label = " ".join([name, *(path.removeprefix(self._root) for path in found)])
            self.calls.seen.append(label)
            if len(self.calls.seen) - 1 != self._at:
                return
            self.calls.struck = label
        number = self._fault.number
        raise OSError(number, os.strerror(number), *(found[:1] if told else ()))

    def on_paths(self, kind: str, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def struck(*given: Any, **options: Any) -> Any:
            paths = (self.below(each) for each in given[:2] if isinstance(each, str | os.PathLike))
            self.strike(kind, name, *paths, told=True)
            return call(*given, **options)

        return struck

    def on_file(self, kind: str, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def struck(fd: int, *given: Any, **options: Any) -> Any:
            path = self.below(fd)
            self.strike(kind, name, path, told=False)
            if kind == "sync" and path is not None:
                return None  # no power is cut here
            return call(fd, *given, **options)

        return struck

    def opening(self, call: Callable[..., int]) -> Callable[..., int]:
        def struck(path: Any, flags: int, *given: Any, **options: Any) -> int:
            kind = "create" if flags & _CREATES else "open"
            self.strike(kind, "open", self.below(path), told=True)
            return call(path, flags, *given, **options)

        return struck

    def sending(self, call: Callable[..., int]) -> Callable[..., int]:
        def struck(out: int, into: int, *given: Any) -> int:
            self.strike("read", "sendfile", self.below(into), told=False)
            self.strike("write", "sendfile", self.below(out), told=False)
            return call(out, into, *given)

        return struck

    def file_object(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return `open`, whose files below the root read and write through this injector."""
        injector = self

        class File(io.FileIO):
            def write(self, data: Any) -> int:
                injector.strike("write", "write", injector.below(self.fileno()), told=False)
                return super().write(data)

            def readinto(self, buffer: Any) -> int:
                injector.strike("read", "read", injector.below(self.fileno()), told=False)
                return super().readinto(buffer)

            def readall(self) -> bytes:
                injector.strike("read", "read", injector.below(self.fileno()), told=False)
                return super().readall()

        def opened(  # noqa: PLR0917 - as `open` has them
            file: Any,
            mode: str = "r",
            buffering: int = -1,
            encoding: str | None = None,
            errors: str | None = None,
            newline: str | None = None,
            closefd: bool = True,
            opener: Any = None,
        ) -> Any:
            path = self.below(file)
            if path is None or Path(path).is_dir():
                return call(file, mode, buffering, encoding, errors, newline, closefd, opener)
            if not isinstance(file, int) and opener is None:  # an opener asks os.open by itself
                kind = "create" if set(mode) & set("wxa+") else "open"
                self.strike(kind, "open", path, told=True)
            plain = mode.replace("b", "").replace("t", "")
            raw = File(file, plain, closefd, opener)
            if buffering == 0:
                return raw
            wrap: Any = io.BufferedReader if plain == "r" else io.BufferedWriter
            buffered = (io.BufferedRandom if "+" in plain else wrap)(raw)
            if "b" in mode:
                return buffered
            text = io.TextIOWrapper(buffered, encoding, errors, newline, buffering == 1)
            text.mode = mode  # type: ignore[misc]
            return text

        return opened

    def below(self, place: Any) -> str | None:
        """Return the path of a file, open or not, if it is below the root."""
        if isinstance(place, int):
            try:
                path = os.readlink(f"/proc/self/fd/{place}")  # noqa: PTH115 - Path may be patched
            except OSError:
                return None
        else:
            path = os.path.abspath(os.fsdecode(place))  # noqa: PTH100 - the same
        return path if f"{path}/".startswith(f"{self._root}/") else None
