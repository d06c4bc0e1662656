"""What it costs that a waiting thread sleeps, or spins: alone, and two processes at once.

    python -m tests.benchmarks.bench_waiting [--template Yi-34b-chat]

Between two operations, the threads of torch wait for each other; libgomp decides by the environment
whether one that waits spins or sleeps. Measured are micro batches of a LoRA training and one answer
of the demo's model, by processes with as many threads as cores, in the type that the CPU is fast
in: one process, then two, whose rates are added. The peer is libgomp's default. The one that
children get is `tasks.core.process.environment.BESIDE_OTHERS`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from tasks.core.home import PROJECT
from tasks.core.machine.cpu import compute_dtype, read_cpu
from tasks.core.process.environment import BESIDE_OTHERS
from tasks.core.recipe import Finetune
from tasks.core.training.model.base_model import read_base_model
from tasks.core.training.model.learned_head import learned_only
from tasks.core.training.model.packed_attention import bounds_of
from tests.benchmarks.demo_model import save_demo_model
from tests.benchmarks.quick_training import CPU, adapted, first_row, plain_model, step

WAYS: Mapping[str, Mapping[str, str]] = {
    "libgomp's default": {},
    "sleeps at once": {"OMP_WAIT_POLICY": "PASSIVE"},
    "as children do": BESIDE_OTHERS,
    "three times as long": {"GOMP_SPINCOUNT": "3000"},
}
MEASURED_S = 8.0
ROW_TOKENS = 1024
ANSWER_TOKENS = 32


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table, or, as a child, the two rates of this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--template", default="Yi-34b-chat")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child is not None:
        print(*rates(options.child, options.template))
        return
    print("| a waiting thread | training: alone | two | an answer: alone | two |")
    print("|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(prefix="bench-waiting-") as work:
        model = save_demo_model(Path(work) / "model")
        for name, environment in WAYS.items():
            alone, two = (_side_by_side(n, model, options.template, environment) for n in (1, 2))
            cells = (each for pair in zip(alone, two, strict=True) for each in pair)
            print(f"| {name} |", " | ".join(f"{cell:.0f}" for cell in cells), "|", flush=True)


def _side_by_side(
    number: int, model: Path, template: str, environment: Mapping[str, str]
) -> list[float]:
    """Return the tokens a second of training and of answers, of all processes together."""
    command = [sys.executable, "-m", __spec__.name, "--child", str(model), "--template", template]
    plain = {name: value for name, value in os.environ.items() if "OMP_" not in name}
    children = [
        subprocess.Popen(
            command,
            env={**plain, **environment, "PYTHONPATH": str(PROJECT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(number)
    ]
    found = [[float(word) for word in child.communicate()[0].split()] for child in children]
    return [sum(column) for column in zip(*found, strict=True)]


def rates(path: Path, template: str) -> tuple[float, float]:
    """Return the tokens a second of training on a packed row, and of one answer."""
    settings = Finetune(
        device="cpu",
        language=None,
        precision=compute_dtype("bfloat16", read_cpu()),
        batching="pack",
        max_length_tokens=ROW_TOKENS,
        zero_stage=0,
    )
    with tempfile.TemporaryDirectory(prefix="bench-waiting-") as work:
        batch = first_row(path, settings, template, Path(work))
    trained = adapted(read_base_model(path, settings, CPU))
    told = learned_only(batch) | bounds_of(batch["position_ids"])
    model = plain_model(path).eval()
    prompt = batch["input_ids"][:, :64]

    def answer() -> None:
        model.generate(
            prompt,
            use_cache=True,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            min_new_tokens=ANSWER_TOKENS,
            max_new_tokens=ANSWER_TOKENS,
        )

    training = batch["input_ids"].numel() * _per_second(lambda: step(trained, told))
    return training, ANSWER_TOKENS * _per_second(answer)


def _per_second(work: Callable[[], None]) -> float:
    """Return how often work is done a second, after a first time that does not count."""
    work()
    began, done = time.monotonic(), 0
    while time.monotonic() - began < MEASURED_S:
        work()
        done += 1
    return done / (time.monotonic() - began)


if __name__ == "__main__":
    main()
