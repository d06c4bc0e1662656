"""What a run with nothing new takes, from the start of its process to its end.

    python -m tests.benchmarks.bench_no_change [--quick] [--times 5]

A tiny recipe is built once; then each run is a process of its own, of this tree and of an earlier
revision in turn, in one home: what is built has the same keys. First against a Prefect server that
runs already, as a worker runs it, then as the command with a temporary server. Of the first the
seconds of each part are shown: `own` is what this project adds to Prefect, its imports and the flow
from its first stage to the report, and the processor's time is the figure to compare on a busy
machine. A line of JSON a row: `ratio` is our time in shares of the earlier one.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

from tasks.core.recipe import Base, Delta, Evaluate, Gate, Publish, Recipe
from tests.benchmarks.earlier import HERE, Took, checkout, run_in, show_row
from tests.models import tiny_delta, tiny_llama

PARTS = ("prefect", "own imports", "flow", "own", "whole", "processor")
WITH_SERVER_S, WITHOUT_S = 3.0, 10.0

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


COMMAND = "from flows.cli import main; main()"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a row a way of running."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--until", default="gate", help="publish reads the model's configuration")
    parser.add_argument("--quick", action="store_true", help="merge only, on a server, once")
    chosen = parser.parse_args(arguments)
    until, times = ("merge", 1) if chosen.quick else (chosen.until, chosen.times)
    with tempfile.TemporaryDirectory() as scratch, checkout() as earlier:
        recipe = _recipe(Path(scratch))
        env = {"KAWAN_USAHA_HOME": f"{scratch}/home"}
        with prefect_test_harness(server_startup_timeout=600):
            _on_a_server(earlier, recipe, until, times, env)
        if not chosen.quick:
            _with_its_own(earlier, recipe, until, times, {**env, "PREFECT_HOME": f"{scratch}/own"})


def _on_a_server(
    earlier: Path, recipe: Recipe, until: str, times: int, env: dict[str, str]
) -> None:
    env = {**env, "PREFECT_API_URL": str(PREFECT_API_URL.value())}
    words = recipe.model_dump_json(exclude_unset=True), until
    print(_parts(run_in(HERE, RUN, *words, env=env))[0])
    print("  ".join(f"{part:>11}" for part in PARTS))
    whole: dict[Path, list[float]] = {HERE: [], earlier: []}
    for _ in range(times):
        for tree, seconds in whole.items():
            message, parts = _parts(run_in(tree, RUN, *words, env=env))
            seconds.append(parts[PARTS.index("whole")])
            print("  ".join(f"{each:>9.2f} s" for each in parts), f"  {message[:40]}")
    row = "no-change rebuild, on a server"
    show_row(row, whole[HERE], whole[earlier], limit_s=WITH_SERVER_S)


def _with_its_own(
    earlier: Path, recipe: Recipe, until: str, times: int, env: dict[str, str]
) -> None:
    file = Path(env["PREFECT_HOME"]).with_name("recipe.yaml")
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_unset=True)))
    words = "rebuild", str(file), "--until", until
    env = {**env, "PREFECT_API_URL": ""}
    whole: dict[Path, list[float]] = {HERE: [], earlier: []}
    _ended(run_in(HERE, COMMAND, *words, env=env))  # its database is made
    for _ in range(times):
        for tree, seconds in whole.items():
            seconds.append(_ended(run_in(tree, COMMAND, *words, env=env)))
    row = "no-change rebuild, with a server of its own"
    show_row(row, whole[HERE], whole[earlier], limit_s=WITHOUT_S)


def _ended(took: Took) -> float:
    if took.exit_code != 0:
        raise SystemExit(f"the run ended with code {took.exit_code}: {took.output}")
    return took.wall_s


def _parts(took: Took) -> tuple[str, list[float]]:
    _ended(took)
    told = next(line for line in took.output.splitlines() if line.startswith("told:"))
    found = json.loads(told[6:])
    return found["message"], found["seconds"]


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
