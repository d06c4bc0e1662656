"""Each rung of the out-of-memory ladder on a real GPU: what the plan says, and what it took.

    python -m tests.benchmarks.bench_gpu --size 13B
    python -m tests.benchmarks.bench_gpu --size 13B --memory-gib 24 --ladder

Makes LLaMA-shaped weights on the spot and trains a few steps of full-length conversations with the
project's own `finetune`, once a rung. With --memory-gib another process holds the rest of the GPU,
so that a large card stands for a small one; with --ladder the ladder itself finds the rung. The
need is what the driver counts for all processes (nvidia-ml-py), less what was taken before.
"""

import argparse
import json
import logging
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree

import pynvml

from tasks.core.errors import KawanUsahaError
from tasks.core.machine.gpus import Gpu
from tasks.core.machine.hardware import read_gpus, read_hardware, with_gpus
from tasks.core.planning.rungs import RungFit, fit_rungs
from tasks.core.planning.shape import shape_of
from tasks.core.recipe import Finetune
from tasks.core.training.attempt import run_attempt
from tasks.core.training.failures import TrainingStopped
from tasks.core.training.ladder import train_down_the_ladder
from tasks.core.training.request import TrainingRequest
from tasks.core.units import GIB
from tests.benchmarks.llama_weights import SHAPES, make_model

_SAMPLE_S = 0.02
_RATE = re.compile(r"(\d+) tokens/s")
_LETTERS = "abcdefghijklmnopqrstuvwxyz     "
_HOLD = """
import sys, torch
torch.cuda.init()
free, total = torch.cuda.mem_get_info()
held = torch.empty(max(0, free - int(sys.argv[1])), dtype=torch.uint8, device="cuda")
print("held", flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Row:
    """One rung: bytes as planned and as seen, and how it ended."""

    rung: str
    planned_gpu_bytes: int
    seen_gpu_bytes: int
    planned_host_bytes: int
    seen_host_bytes: int | None
    planned_fit: bool
    ended: str
    tokens_per_s: float | None
    wall_s: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark that the command line describes."""
    logging.basicConfig(level=logging.WARNING)
    options = _parse(arguments)
    work = options.workdir.resolve()
    model, data = work / options.size, work / "conversation.json"
    if not model.exists():
        make_model(model, SHAPES[options.size], seed=1, scale=0.02, norm=1.0)
    _write_conversations(data, options)
    settings = _settings(options, data)
    with _only(options.memory_gib) as gpu:
        hardware = with_gpus(read_hardware(work), (gpu,))
        if options.ladder:
            _climb_down(model, settings, data, work)
            return
        rows = []
        for fit in fit_rungs(shape_of(model), settings, hardware):
            if options.only and fit.number not in options.only:
                continue
            rows.append(_measured(fit, model, data, work))
            print(json.dumps(asdict(rows[-1])), flush=True)
    print(_table(rows, gpu))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=list(SHAPES), default="13B")
    parser.add_argument("--memory-gib", type=float, help="leave this much of the GPU, in GiB")
    parser.add_argument("--ladder", action="store_true", help="let the ladder find the rung")
    parser.add_argument("--only", type=int, nargs="*", default=[], help="numbers of rungs")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--micro-batch-size", type=int, default=2)
    parser.add_argument("--zero-stage", type=int, default=2)
    parser.add_argument("--checkpointing", action="store_true", help="on the first rung too")
    parser.add_argument("--workdir", type=Path, default=Path(".benchmarks/gpu"))
    return parser.parse_args(arguments)


def _settings(options: argparse.Namespace, data: Path) -> Finetune:
    """Return the original's settings, with a global batch of a few conversations."""
    return Finetune(
        data=data,
        language=None,
        max_steps=options.steps,
        micro_batch_size=options.micro_batch_size,
        gradient_accumulation_steps=2,
        max_length_tokens=options.length,
        gradient_checkpointing=options.checkpointing,
        zero_stage=options.zero_stage,
        logging_steps=1,
        processes=1,
        device="cuda",
    )


def _write_conversations(path: Path, options: argparse.Namespace) -> None:
    """Write conversations that fill the length but for a few tokens: a byte is a token here."""
    draw = random.Random(1)  # noqa: S311
    count = options.steps * options.micro_batch_size * 2
    text = ["".join(draw.choices(_LETTERS, k=options.length - 200)) for _ in range(count)]
    records = [
        {
            "id": str(number),
            "conversations": [
                {"from": "human", "value": f"{answer[:20]} {number}?"},
                {"from": "gpt", "value": answer},
            ],
        }
        for number, answer in enumerate(text)
    ]
    path.write_text(json.dumps(records))


@contextmanager
def _only(memory_gib: float | None) -> Iterator[Gpu]:
    """Take all of the GPU but memory_gib, and yield what is left as a card."""
    found, note = read_gpus()
    if not found:
        sys.exit(f"This benchmark needs a GPU: {note}")
    gpu = found[0]
    if memory_gib is None:
        yield gpu
        return
    left = int(memory_gib * GIB)
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(left)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        yield Gpu(**{**asdict(gpu), "memory_bytes": left, "name": f"{memory_gib:g} GiB of it"})
    finally:
        holder.communicate()


def _measured(fit: RungFit, model: Path, data: Path, work: Path) -> Row:
    lines: list[str] = []
    out = work / "out"
    rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    start, ended, done = time.perf_counter(), "trained", None
    with _UsedGpu() as used:
        try:
            request = TrainingRequest(
                model, fit.rung.settings, data, "vicuna_v1.1", out, on_line=lines.append
            )
            done = run_attempt(request)
        except KawanUsahaError as error:
            ended = error.reason.value if isinstance(error, TrainingStopped) else str(error)
            (work / f"rung-{fit.number}.log").write_text("\n".join(lines))
    rates = [float(found[1]) for line in lines if (found := _RATE.search(line))]
    return Row(
        rung=fit.rung.name,
        planned_gpu_bytes=fit.gpu_bytes,
        seen_gpu_bytes=used.peak,
        planned_host_bytes=fit.host_bytes,
        seen_host_bytes=done.peak_memory_bytes if done else None,
        planned_fit=fit.fits,
        ended=ended,
        tokens_per_s=rates[-1] if rates else None,
        wall_s=time.perf_counter() - start,
    )


def _climb_down(model: Path, settings: Finetune, data: Path, work: Path) -> None:
    """Let the ladder find the rung, and say what it said."""
    out = work / "ladder"
    rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    start = time.perf_counter()
    request = TrainingRequest(
        model,
        settings,
        data,
        "vicuna_v1.1",
        out,
        on_line=lambda line: print(f"{time.perf_counter() - start:6.1f} s  {line}", flush=True),
    )
    result = train_down_the_ladder(request, work)
    print(f"rung {result.number} of {result.rungs}: {result.rung.name}")
    print("\n".join(f"{step.rung}: {step.reason.value}" for step in result.steps_down))
    losses = ", ".join(f"{step.loss:.4f}" for step in result.trained.steps)
    facts = result.trained.facts
    print(f"losses {losses}; {facts.tensors} tensors")


class _UsedGpu(threading.Thread):
    """Watches what all processes hold of the first GPU, beyond what they held at the start."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._finished = threading.Event()
        pynvml.nvmlInit()
        self._handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        self._before = self._used()
        self.peak = 0

    def run(self) -> None:
        while not self._finished.wait(_SAMPLE_S):
            self.peak = max(self.peak, self._used() - self._before)

    def __enter__(self) -> "_UsedGpu":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()
        self.join()

    def _used(self) -> int:
        return int(pynvml.nvmlDeviceGetMemoryInfo(self._handle).used)


def _table(rows: list[Row], gpu: Gpu) -> str:
    lines = [
        f"GPU: {gpu.name}, {gpu.memory_bytes / GIB:.1f} GiB",
        "| rung | GPU, planned | seen | host, planned | seen | plan | ended | tokens/s | wall |",
        "|---|---:|---:|---:|---:|---|---|---:|---:|",
    ]
    for row in rows:
        host = "–" if row.seen_host_bytes is None else f"{row.seen_host_bytes / GIB:.1f}"
        rate = "–" if row.tokens_per_s is None else f"{row.tokens_per_s:.0f}"
        lines.append(
            f"| {row.rung} | {row.planned_gpu_bytes / GIB:.1f} GiB "
            f"| {row.seen_gpu_bytes / GIB:.1f} | {row.planned_host_bytes / GIB:.1f} GiB | {host} "
            f"| {'fits' if row.planned_fit else 'does not fit'} | {row.ended} | {rate} "
            f"| {row.wall_s:.0f} s |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
