"""LoRA training against FastChat's recipe and TRL's packing, side by side on the CPU.

    python -m tests.benchmarks.bench_training MODEL --conversations 48 --repeats 1
    python -m tests.benchmarks.bench_training --quick

Same tokens and labels, same LoRA, same epochs and learning rate, and a step of the same size: where
conversations are packed, as many full rows as hold the tokens of one step of conversations. Each
contender is a process of its own, one after the other. Useful tokens are those that are no padding;
their rate is taken from the end of the first step to the end of the last, so that loading counts
for nobody. The loss is that of held-out conversations, measured with the adapter that each wrote.
"""

import argparse
import json
import re
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from tasks.core.conversation.examples.file import ExampleFile
from tasks.core.conversation.prepared import PreparedExamples, prepare_examples
from tasks.core.machine.cpu import compute_dtype, read_cpu
from tasks.core.recipe import Finetune
from tests.benchmarks import quick_training
from tests.benchmarks.measure import Run, run
from tests.benchmarks.training_contenders import KINDS, Job

PROGRAM = Path(__file__).with_name("training_contenders.py")
PROJECT = Path(__file__).parents[2]
_STEP = re.compile(r"^@step (\d+) ([\d.]+)$", re.MULTILINE)
_FIRST = re.compile(r"^@first (\d+)$", re.MULTILINE)
_TOKENS = re.compile(r"^@tokens (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """One contender: medians over the rounds, and the loss of its last adapter."""

    name: str
    tokens_per_s: float | None
    peak_bytes: int | None
    wall_s: float | None
    held_out_loss: float | None
    note: str = ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark that the command line describes."""
    options = _parse(arguments)
    if options.quick:
        quick_training.main(options.template)
        return
    work = options.workdir.resolve()
    work.mkdir(parents=True, exist_ok=True)
    job = _job(options, work)
    names = options.only or list(KINDS)
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for number in range(options.repeats):
        for name in names:
            runs[name].append(_run(name, job, work, number))
            print(f"round {number + 1}: {name}: {runs[name][-1].wall_s:.1f} s", flush=True)
    rows = [_row(name, runs[name], job, options, work) for name in names]
    print(table(rows))
    result = {"job": asdict(job), "rows": [asdict(row) for row in rows]}
    (work / "training.json").write_text(json.dumps(result, indent=1))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", help="a directory, such as the demo's model")
    parser.add_argument("--quick", action="store_true", help="one step of the demo's model, no TRL")
    parser.add_argument("--data", type=Path, default=PROJECT / "data" / "conversation.json")
    held_out = PROJECT / "data" / "evaluation" / "held_out.json"
    parser.add_argument("--held-out", type=Path, default=held_out)
    parser.add_argument("--template", default="Yi-34b-chat")
    parser.add_argument("--conversations", type=int, default=48)
    parser.add_argument("--conversations-a-step", type=int, default=8)
    parser.add_argument("--micro-batch-size", type=int, default=2)
    parser.add_argument("--max-length-tokens", type=int, default=2048)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    fast = compute_dtype("bfloat16", read_cpu())
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default=fast)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--workdir", type=Path, default=Path(".benchmarks/training"))
    parser.add_argument("--only", nargs="*", default=[], choices=KINDS)
    options = parser.parse_args(arguments)
    if options.model is None and not options.quick:
        parser.error("name a model, or take --quick")
    return options


def _job(options: argparse.Namespace, work: Path) -> Job:
    """Write the tokens and labels that all train on, and return the job."""
    records = json.loads(options.data.read_bytes())[: options.conversations]
    data = work / "conversation.json"
    data.write_text(json.dumps(records))
    prepared = _prepared(options, data, work / "prepared")
    a_step = options.conversations_a_step
    tokens_a_step = a_step * prepared.counts.tokens / prepared.counts.examples
    return Job(
        model=str(options.model.resolve()),
        data=str(prepared.examples.parent),
        template=options.template,
        examples=str(prepared.examples),
        adapter="",
        max_length_tokens=options.max_length_tokens,
        conversations_a_step=a_step,
        packs_a_step=max(1, round(tokens_a_step / options.max_length_tokens)),
        micro_batch_size=options.micro_batch_size,
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        lora_r=8,
        lora_alpha=16,
        lora_targets=["q_proj", "v_proj"],
        bf16=options.precision == "bfloat16",
        seed=42,
    )


def _prepared(options: argparse.Namespace, data: Path, out: Path) -> PreparedExamples:
    _make_empty(out)
    settings = Finetune(language=None, max_length_tokens=options.max_length_tokens)
    return prepare_examples(options.model, data, settings, options.template, out=out)


def _run(name: str, job: Job, work: Path, number: int) -> Run:
    own = work / f"{name}-{number}"
    _make_empty(own)
    job_file = own / "job.json"
    job_file.write_text(json.dumps(asdict(job) | {"adapter": str(own / "adapter")}))
    argv = ["env", f"PYTHONPATH={PROJECT}", sys.executable, str(PROGRAM), name, str(job_file)]
    return run(argv, own / "log.txt")


def _make_empty(directory: Path) -> None:
    """Make a directory, without what an earlier run has left there."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()


def _row(name: str, runs: Sequence[Run], job: Job, options: argparse.Namespace, work: Path) -> Row:
    failed = [each for each in runs if each.exit_code != 0]
    if failed:
        return Row(name, None, None, None, None, note=failed[0].last_words)
    logs = [(work / f"{name}-{i}" / "log.txt").read_text() for i in range(len(runs))]
    return Row(
        name,
        tokens_per_s=statistics.median(map(useful_tokens_per_s, logs)),
        peak_bytes=round(statistics.median(each.peak_bytes for each in runs)),
        wall_s=statistics.median(each.wall_s for each in runs),
        held_out_loss=held_out_loss(
            Path(job.model), work / f"{name}-{len(runs) - 1}" / "adapter", options
        ),
    )


def useful_tokens_per_s(log: str) -> float:
    """Return the rate between the first and the last step that a contender's output tells of."""
    steps = [(int(step), float(time_s)) for step, time_s in _STEP.findall(log)]
    (first, began), (last, ended) = steps[0], steps[-1]
    (tokens,) = map(int, _TOKENS.findall(log))
    in_first = [int(found) for found in _FIRST.findall(log)] or [tokens * first / last]
    return (tokens - in_first[0]) / (ended - began)


def held_out_loss(model: Path, adapter: Path, options: argparse.Namespace) -> float:
    """Return the mean loss a learned token, in nats, on the held-out conversations, in fp32."""
    prepared = _prepared(options, options.held_out, adapter.with_name("held-out"))
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, trust_remote_code=True)
    peft = PeftModel.from_pretrained(base, adapter).eval()
    nats, learned = 0.0, 0
    with torch.no_grad():
        for example in ExampleFile(prepared.examples):
            logits = peft(example["input_ids"][None]).logits[0, :-1]
            labels = example["labels"][1:]
            nats += cross_entropy(logits, labels, reduction="sum").item()
            learned += int((labels != -100).sum())
    return nats / learned


def table(rows: Sequence[Row]) -> str:
    """Return the rows as markdown, with how many times faster ours is by its best batching."""
    best = max(
        (row.tokens_per_s for row in rows if row.name.startswith("ours") and row.tokens_per_s),
        default=None,
    )
    lines = [
        "| contender | useful tokens/s | ours is | peak GB | wall s | held-out loss |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        if row.tokens_per_s is None or row.peak_bytes is None:
            lines.append(f"| {row.name} | failed: {row.note} | | | | |")
            continue
        times = f"{best / row.tokens_per_s:.2f} x" if best else ""
        lines.append(
            f"| {row.name} | {row.tokens_per_s:.0f} | {times} | {row.peak_bytes / 1e9:.2f} | "
            f"{row.wall_s:.0f} | {row.held_out_loss:.4f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
