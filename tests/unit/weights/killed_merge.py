"""A merge that kills itself: `BASE DELTA OUT SHARD_BYTES SHARE THREADS MOMENT`."""

import os
import signal
import sys
from pathlib import Path

from tasks.core.weights import merge, writer


def main() -> None:
    """Merge; die after this share of the pieces, or instead of the first journal entry."""
    base, delta, out, shard_bytes, share, threads, moment = sys.argv[1:]

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def report(done: int, total: int) -> None:
        if moment == "piece" and done >= float(share) * total:
            die()

    if moment == "journal":
        writer.ShardJournal.record = die  # type: ignore[method-assign]
    merge.merge_delta(
        Path(base),
        Path(delta),
        Path(out),
        max_shard_bytes=int(shard_bytes),
        threads=int(threads),
        on_progress=report,
    )


if __name__ == "__main__":
    main()
