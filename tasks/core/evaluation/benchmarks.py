"""Benchmarks of lm-eval by name, run as a program, with their results read back as figures.

lm-eval is not a dependency of the project: `pip install lm-eval` adds it. Its own tasks download
their data sets (or use the cache of `datasets`); the user's task files in
`evaluate.benchmark_tasks` with data beside them need no network.
Source: EleutherAI/lm-evaluation-harness.
"""

import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tasks.core.errors import EvaluationFailed, MissingTool
from tasks.core.evaluation.figures import Benchmark, Subject
from tasks.core.files.listing import paths_below
from tasks.core.machine.cpu import compute_dtype, read_cpu
from tasks.core.planning.shape import dtype_of
from tasks.core.process import run_child
from tasks.core.recipe import Evaluate

_PACKAGE = "lm-eval"
_NOT_METRICS = ("alias", "name", "sample_len", "sample_count")


def lm_eval_version() -> str:
    """Return the installed version of lm-eval. Raises MissingTool when there is none."""
    try:
        return importlib.metadata.version(_PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingTool(
            "The recipe asks for benchmarks, but lm-eval is not installed.",
            where="evaluate.benchmarks",
            expected=f"the package {_PACKAGE} in this environment",
            found=sys.prefix,
            next_step=f"`pip install {_PACKAGE}`, or leave evaluate.benchmarks empty.",
        ) from error


def run_benchmarks(
    subject: Subject,
    settings: Evaluate,
    *,
    scratch: Path,
    env: dict[str, str],
    on_line: Callable[[str], None] | None = None,
    log: Path | None = None,
) -> tuple[Benchmark, ...]:
    """Return lm-eval's results for one model. Raises EvaluationFailed with its last lines.

    lm-eval's output goes to the file `log`.
    """
    out = scratch / f"benchmarks of {subject.role}"
    out.mkdir()
    if on_line is not None:
        on_line(f"{subject.role}: benchmarks {', '.join(settings.benchmarks)}")
    result = run_child(_command(subject, settings, out), env=env, log=log)
    files = [path for path in paths_below(out) if path.match("results*.json")]
    if not result.succeeded or not files:
        raise EvaluationFailed(
            f"The benchmarks of {subject.role} did not finish: lm-eval {result.cause.value}.",
            where=result.log or ", ".join(settings.benchmarks),
            found="\n    ".join(["", *result.tail[-15:]]),
            next_step="Check the names with `lm-eval ls tasks`. Without a network a task "
            "needs its data set in the cache, or data files beside a task file in "
            "evaluate.benchmark_tasks.",
        )
    return tuple(_figures(subject, json.loads(files[-1].read_bytes())["results"]))


def _command(subject: Subject, settings: Evaluate, out: Path) -> list[str]:
    on_cpu = compute_dtype(dtype_of(subject.path), read_cpu())
    model = {
        "pretrained": str(subject.path),
        "trust_remote_code": True,
        "dtype": "auto" if settings.device == "cuda" else on_cpu,
    }
    argv = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", settings.device]
    argv += ["--model_args", json.dumps(model), "--output_path", str(out)]
    argv += ["--tasks", *settings.benchmarks]
    if settings.benchmark_tasks is not None:
        argv += ["--include_path", str(settings.benchmark_tasks)]
    if settings.benchmark_limit is not None:
        argv += ["--limit", str(settings.benchmark_limit)]
    return argv


def _figures(subject: Subject, results: dict[str, dict[str, object]]) -> Iterator[Benchmark]:
    """Yield every metric: lm-eval writes `metric,filter`, and its error as `metric_stderr,filter`.

    The filter `none` is omitted, and so are values that are not numbers (a standard error "N/A").
    """
    for task, values in results.items():
        for key, value in values.items():
            metric, _, chosen = key.partition(",")
            if metric in _NOT_METRICS or metric.endswith("_stderr") or not _is_number(value):
                continue
            error = values.get(f"{metric}_stderr,{chosen}")
            yield Benchmark(
                role=subject.role,
                task=task,
                metric=metric if chosen in ("", "none") else f"{metric}, {chosen}",
                value=float(str(value)),
                stderr=float(str(error)) if _is_number(error) else None,
            )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
