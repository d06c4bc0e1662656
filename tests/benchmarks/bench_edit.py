"""What the edit stage costs: time and bytes, on a model that is made on the spot.

`python -m tests.benchmarks.bench_edit --size 3B --workdir DIR`. There is no peer to run beside it:
other ways write the whole model again. So a plain `cp` of the weights is measured beside it, as the
least that such a way would cost.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tasks.core.architecture.edit import edit_model
from tasks.core.architecture.proof.edit_proof import prove_edit
from tasks.core.keys import stage_key
from tasks.core.recipe import Edit
from tasks.core.store import Staging, Store
from tests.benchmarks.llama_weights import SHAPES, make_model
from tests.models import tiny_tokenizer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=sorted(SHAPES), default="160M")
    parser.add_argument("--workdir", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.workdir, prefix="bench-edit-") as root:
        print(json.dumps(measure(Path(root), options.size), indent=1))


def measure(root: Path, size: str) -> dict[str, object]:
    """Return seconds and bytes of writing, sealing and proving an edited model of this size."""
    store, edit = Store(root), Edit()

    def make(staging: Staging) -> None:
        make_model(staging.path, SHAPES[size], seed=1, scale=0.02, norm=1.0)
        tiny_tokenizer(32_000).save_pretrained(staging.path)

    merged = store.build(stage_key("merge", 1, {}), make).artifact
    os.sync()
    seconds: dict[str, float] = {}
    facts: dict[str, int] = {}

    def write(staging: Staging) -> None:
        started = time.monotonic()
        written = edit_model(merged.path, edit, staging.path)
        seconds["write"] = time.monotonic() - started
        facts["own_bytes"], facts["shared_bytes"] = written.own_bytes, written.shared_bytes
        staging.record({f.name: merged.manifest.files[f.source.name] for f in written.shared})

    started = time.monotonic()
    edited = store.build(stage_key("edit", 1, {}), write).artifact
    seconds["write and seal"] = time.monotonic() - started
    started = time.monotonic()
    proof = prove_edit(edited.path, edit, unedited=merged.path)
    seconds["prove"] = time.monotonic() - started
    started = time.monotonic()
    shutil.copytree(merged.path, root / "copy")
    subprocess.run(["sync"], check=True)
    seconds["cp of the same files, synced"] = time.monotonic() - started
    rounded = {name: round(value, 3) for name, value in seconds.items()}
    return {"size": size, "seconds": rounded, **facts, "proven on": proof.seen}


if __name__ == "__main__":
    main()
