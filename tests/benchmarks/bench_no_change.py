"""What a scheduled run with nothing new takes, from the start of its process to its end.

    python -m tests.benchmarks.bench_no_change --times 5

A tiny recipe is built once; then each run is a process of its own, as a worker starts it, against a
Prefect server that runs already. Printed are the seconds of each part, and the processor time of
the process, which is the figure to compare on a busy machine. `own` is what this project adds to
Prefect: its imports, and the flow from its first stage to the report.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

from tasks.core.recipe import Base, Delta, Evaluate, Gate, Publish, Recipe
from tests.models import tiny_delta, tiny_llama

PARTS = ("prefect", "own imports", "flow", "own", "whole", "processor")

RUN = """
import json, os, sys, time
begin = time.monotonic()
import prefect.main
prefect_s = time.monotonic() - begin
from flows.lifecycle import rebuild
from tasks.core.recipe import Recipe
imported_s = time.monotonic() - begin - prefect_s
recipe = Recipe.model_validate_json(sys.argv[1])
state = rebuild(recipe, until=sys.argv[2], return_state=True)
whole_s = time.monotonic() - begin
used = os.times()
flow_s = whole_s - imported_s - prefect_s
print("told:", json.dumps({
    "message": state.message,
    "seconds": [prefect_s, imported_s, flow_s, imported_s + flow_s, whole_s, used[0] + used[1]],
}))
"""


def main() -> None:
    """Print a row a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--until", default="gate", help="publish reads the model's configuration")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, prefect_test_harness(server_startup_timeout=600):
        os.environ["KAWAN_USAHA_HOME"] = f"{scratch}/home"
        os.environ["PREFECT_API_URL"] = str(PREFECT_API_URL.value())
        recipe = _recipe(Path(scratch))
        print(_run(recipe, chosen.until)[0])
        print("  ".join(f"{part:>11}" for part in PARTS))
        for _ in range(chosen.times):
            message, seconds = _run(recipe, chosen.until)
            print("  ".join(f"{each:>9.2f} s" for each in seconds), f"  {message[:40]}")


def _run(recipe: Recipe, until: str) -> tuple[str, list[float]]:
    command = [sys.executable, "-c", RUN, recipe.model_dump_json(), until]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    told = json.loads(next(line for line in output.splitlines() if line.startswith("told:"))[6:])
    return told["message"], told["seconds"]


def _recipe(root: Path) -> Recipe:
    tiny_llama(root / "base", seed=1)
    tiny_delta(root / "base", tiny_llama(root / "target", seed=2), root / "delta")
    turns = [{"from": "human", "value": "Halo?"}, {"from": "gpt", "value": "Halo juga."}]
    (root / "held_out.json").write_text(json.dumps([{"id": "a", "conversations": turns}]))
    (root / "prompts.json").write_text(json.dumps([{"id": "p", "prompt": "Apa itu NIB?"}]))
    evaluate = Evaluate(
        conversations=root / "held_out.json",
        prompts=root / "prompts.json",
        max_new_tokens=4,
        device="cpu",
        gate=Gate(max_perplexity_ratio=2.0),
    )
    return Recipe(
        name="tiny",
        base=Base(directory=root / "base"),
        delta=Delta(directory=root / "delta"),
        evaluate=evaluate,
        publish=Publish(target=str(root / "published"), license="apache-2.0"),
    )


if __name__ == "__main__":
    main()
