"""`URL HOME METHOD TIMES`: build or fetch, killed after so many calls of a method of the directory.

It imports no more than that needs: neither the server nor what tests are written with.
"""

import os
import signal
import sys
from pathlib import Path

from tasks.core.keys import stage_key
from tasks.core.storage.directory import StorageDirectory
from tasks.core.store import RemoteStore, Staging, Store, transfers

KEY = stage_key("merge", 1, {})
SIZES = {f"shard-{number}": 300_000 + number for number in range(6)}


def write(staging: Staging) -> None:
    """Write files of other bytes each time."""
    for name, size in SIZES.items():
        (staging.path / name).write_bytes(os.urandom(size))


def main() -> None:
    """Build, and be killed."""
    url, home, method, times = sys.argv[1:]
    before, calls = getattr(StorageDirectory, method), []

    def die(self: StorageDirectory, *args: object, **kwargs: object) -> object:
        calls.append(args)
        if len(calls) > int(times):
            os.kill(os.getpid(), signal.SIGKILL)
        return before(self, *args, **kwargs)

    setattr(StorageDirectory, method, die)
    transfers.THREADS = 1
    Store(Path(home), remote=RemoteStore.open(url)).build(KEY, write)


if __name__ == "__main__":
    main()
