"""Base and delta are merged while they are fetched, against the downloads alone.

    python -m tests.benchmarks.bench_overlap [--quick] [--megabytes-per-s 40] [--rounds 3]

A Hub on this machine sends no more bytes a second, to all together, than a network would; each
round has a home of its own. The limit is the time in which base and delta are artifacts of the
store; the merge one after the other is shown beside it. A line of JSON is the row: `ratio` is our
time in shares of the limit.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.utils import disable_progress_bars
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.core.demo.hub.server import running_hub
from tasks.core.hub.download.artifact import download_source
from tasks.core.hub.download.incoming import IncomingSource
from tasks.core.hub.download.merge_ahead import merge_while_downloading
from tasks.core.hub.download.pinned import PinnedSource
from tasks.core.hub.publish.to_hub.sending import additions
from tasks.core.recipe import Source
from tasks.core.store import Store
from tasks.core.system.threads import pause, run_all
from tasks.core.weights.merge import merge_delta
from tests.benchmarks.llama_weights import Shape, make_model
from tests.hub_faults import Faults

_SHAPE = Shape(hidden=512, layers=8, intermediate=2048, heads=8)
"""130 MB in float16."""
_SHARD_BYTES = 16 << 20
_POLL_S = 0.05


class Network:
    """Lets all answers together have so many bytes a second."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s, self._free_at = bytes_per_s, 0.0

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer at that pace."""

        async def paced(message: Message) -> None:
            now = time.monotonic()
            took_s = len(message.get("body", b"")) / self._bytes_per_s
            self._free_at = max(now, self._free_at) + took_s
            await asyncio.sleep(self._free_at - now)
            await send(message)

        await app(scope, receive, paced)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the seconds of each way, and the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes-per-s", type=float, default=40.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="ours and the limit only")
    chosen = parser.parse_args(arguments)
    disable_progress_bars()
    ways: dict[str, Callable[[Path], object]] = {"downloads alone": _fetched, "ours": _overlapped}
    if not chosen.quick:
        ways["one after the other"] = _in_turn
    with tempfile.TemporaryDirectory(prefix="bench-", dir=Path.cwd()) as name:
        work, faults = Path(name), Faults()
        with running_hub(work / "hub", middleware=faults.around) as hub:
            os.environ.update(HF_ENDPOINT=hub.url, HF_TOKEN=hub.token)
            _publish(work, HfApi(endpoint=hub.url, token=hub.token))
            network = Network(1e6 * chosen.megabytes_per_s)
            faults.add(network, "/resolve/", times=1_000_000)
            seconds: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(chosen.rounds):
                for way, run in ways.items():
                    seconds[way].append(_wall_s(run, work / "home"))
    middle = {way: statistics.median(each) for way, each in seconds.items()}
    for way, median in middle.items():
        print(f"{way:>20}: {median:6.2f} s")
    ratio = round(middle["ours"] / middle["downloads alone"], 3)
    print(json.dumps({"row": "download and merge", "of": "downloads alone", "ratio": ratio}))


def _publish(work: Path, client: HfApi) -> None:
    for part, seed, scale, norm in (("base", 1, 0.02, 1.0), ("delta", 2, 0.002, 0.0)):
        model = make_model(
            work / part, _SHAPE, seed=seed, scale=scale, norm=norm, shard_bytes=1 << 26
        )
        client.create_repo(f"kawan-usaha/{part}")
        files = {path.name: path for path in sorted(model.iterdir())}
        with additions(client.endpoint, files) as added:
            client.create_commit(f"kawan-usaha/{part}", added, commit_message=part)


def _sources(home: Path) -> tuple[Store, list[IncomingSource], list[Callable[[], object]]]:
    """Return a store, base and delta, and what fetches each."""
    store = Store(home)
    incoming = [
        IncomingSource(PinnedSource(Source(repo=f"kawan-usaha/{part}"), store))
        for part in ("base", "delta")
    ]
    return (
        store,
        incoming,
        [partial(download_source, each.pinned, store, incoming=each) for each in incoming],
    )


def _fetched(home: Path) -> list[IncomingSource]:
    _, incoming, fetches = _sources(home)
    run_all(fetches, threads=2, name="fetch", stop=lambda: None)
    return incoming


def _in_turn(home: Path) -> None:
    base, delta = _fetched(home)
    merge_delta(base.directory, delta.directory, home / "out", max_shard_bytes=_SHARD_BYTES)


def _overlapped(home: Path) -> None:
    _, (base, delta), fetches = _sources(home)

    def wait() -> bool:
        if base.artifact is not None and delta.artifact is not None:
            return False
        pause(_POLL_S)
        return True

    def ahead() -> dict[str, object]:
        done = merge_while_downloading(
            base, delta, home / "out", max_shard_bytes=_SHARD_BYTES, wait=wait
        )
        return dict(done)

    *_, finished = run_all([*fetches, ahead], threads=3, name="fetch", stop=lambda: None)
    contents = base.contents() or {}, delta.contents() or {}
    written = merge_delta(
        base.directory,
        delta.directory,
        home / "out",
        max_shard_bytes=_SHARD_BYTES,
        contents=contents,
        finished=finished,
    )
    print(f"{written.shards_kept} of {written.shards_kept + written.shards_written} ahead")


def _wall_s(run: Callable[[Path], object], home: Path) -> float:
    os.sync()
    start = time.perf_counter()
    run(home)
    os.sync()
    wall_s = time.perf_counter() - start
    shutil.rmtree(home)
    return wall_s


if __name__ == "__main__":
    main()
