"""Wall time and peak memory of a command that reads its weights from the disk.

Before a run the weights' pages are evicted from the page cache, with posix_fadvise, which needs no
rights. The programs stay cached: /proc/sys/vm/drop_caches would add the reading of torch and
transformers from the disk to every start, which is not what is measured here.

Memory is read from /proc while the command runs: VmHWM, the kernel's own high-water mark of a
process's resident pages, summed over the command's tree, and of these the anonymous ones (RssAnon),
which only the end of the process gives back. What processes share counts in each of them; the
proportional set size (smaps_rollup), read every half second, counts it once. VmHWM counts mapped
files too, so a program that maps its weights shows them. `ru_maxrss` is not used: a child inherits
it from whoever started it.
"""

import itertools
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_SAMPLE_S = 0.02
_PSS_EVERY = 25  # samples: the kernel walks through every page for it


@dataclass(frozen=True)
class Run:
    """One run of a command, ended by a sync of the disk that belongs to its time."""

    wall_s: float
    peak_bytes: int
    peak_anonymous_bytes: int
    exit_code: int
    last_words: str
    peak_pss_bytes: int = 0


def evict(directories: Sequence[Path]) -> None:
    """Return when no page of any file under directories is in the page cache."""
    os.sync()
    for path in (path for directory in directories for path in directory.rglob("*")):
        if path.is_file():
            evict_file(path)


def evict_file(path: Path) -> None:
    """Return when no page of the file is in the page cache; what was not on the disk is written."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def run(command: list[str], log: Path) -> Run:
    """Run command to its end and to the disk, and return what it took."""
    with log.open("wb") as output:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        sampler = _Sampler(child.pid)
        sampler.start()
        exit_code = child.wait()
        os.sync()
        wall_s = time.perf_counter() - start
        sampler.finish()
    lines = log.read_text(errors="replace").strip().splitlines()
    return Run(
        wall_s=wall_s,
        peak_bytes=sum(sampler.high_water.values()),
        peak_anonymous_bytes=sampler.peak_anonymous,
        exit_code=exit_code,
        last_words=lines[-1][-300:] if lines else "",
        peak_pss_bytes=sampler.peak_pss,
    )


class _Sampler(threading.Thread):
    """Reads the memory of a process and its descendants until it is told to finish."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._finished = threading.Event()
        self.high_water: dict[int, int] = {}
        self.peak_anonymous = 0
        self.peak_pss = 0

    def run(self) -> None:
        for sample in itertools.count():
            if self._finished.wait(_SAMPLE_S):
                return
            anonymous = 0
            tree = _tree(self._pid)
            if sample % _PSS_EVERY == 0:
                pss = (_memory_bytes(pid, "smaps_rollup").get("Pss", 0) for pid in tree)
                self.peak_pss = max(self.peak_pss, sum(pss))
            for pid in tree:
                fields = _memory_bytes(pid)
                self.high_water[pid] = max(self.high_water.get(pid, 0), fields.get("VmHWM", 0))
                anonymous += fields.get("RssAnon", 0)
            self.peak_anonymous = max(self.peak_anonymous, anonymous)

    def finish(self) -> None:
        self._finished.set()
        self.join()


def _tree(pid: int) -> list[int]:
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [pid, *(child.pid for child in children)]


def _memory_bytes(pid: int, file: str = "status") -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if line.endswith(" kB"))
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}
