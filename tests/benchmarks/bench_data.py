"""What batches waste: FastChat's padding against dynamic padding, grouping and packing.

    python -m tests.benchmarks.bench_data --workdir .benchmarks
    python -m tests.benchmarks.bench_data --quick

Takes the starter set and a long-tailed set of the same words (lengths drawn log-normally, as chats
that people share have them), makes the batches of an epoch in each of the four ways, counts what is
padding, and trains (forward and backward) on some of the batches, spread over the epoch, one way
after the other, a round at a time. Useful tokens are those that are no padding. Beside the table
stand `batching.json` and `batching.png`.

Without --model a small LLaMA with random weights and a tokenizer that has learned the starter set
is made on the spot: shares are then those of about 3.5 characters a token, as LLaMA has them.
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tasks.core.conversation.examples.file import ExampleFile
from tasks.core.conversation.examples.labels import IGNORED, Encoder, Example
from tasks.core.conversation.examples.writer import ExampleWriter
from tasks.core.machine.cpu import compute_dtype, read_cpu
from tasks.core.recipe import Finetune
from tasks.core.system.cores import usable_cores
from tasks.core.training.batching.choice import batching_of
from tests.benchmarks.batching_chart import draw
from tests.conversations import load_conversations

_STARTER = Path(__file__).parents[2] / "data" / "conversation.json"
_FASTCHAT = "FastChat: to full length"
_WAYS = {
    _FASTCHAT: "pad",
    "pad: to the longest": "pad",
    "group: by length, then pad": "group",
    "pack: several a row": "pack",
}

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Row:
    """One way on one set: shares over the whole epoch, speed over the measured batches."""

    data: str
    way: str
    batches: int
    padded_share: float
    useful_tokens: int
    learned_tokens: int
    useful_tokens_per_s: float
    slowest_round: float
    fastest_round: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark that the command line describes."""
    options = _parse(arguments)
    work = options.workdir.resolve()
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model, tokenizer = _model(options)
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        sets = _sets(options, tokenizer, Path(scratch))
        rows = [
            row for name, examples in sets.items() for row in _rows(options, name, examples, model)
        ]
    if options.quick:
        _tell_ratios(rows)
    else:
        _publish(options, model, rows, work)


def _rows(
    options: argparse.Namespace, name: str, examples: ExampleFile, model: PreTrainedModel
) -> list[Row]:
    epochs = {way: _epoch(options, way, examples) for way in _WAYS}
    chosen = {way: _spread(epoch, options.batches) for way, epoch in epochs.items()}
    speeds: dict[str, list[float]] = {way: [] for way in _WAYS}
    for number in range(options.repeats + 1):
        for way, batches in chosen.items():
            speed = _useful_tokens_per_s(model, batches)
            if number:  # the first round warms up
                speeds[way].append(speed)
                print(
                    f"{name}, round {number}, {way}: {speed:,.0f} useful tokens/s", file=sys.stderr
                )
    rows = [_row(name, way, epochs[way], speeds[way]) for way in _WAYS]
    if len({(row.useful_tokens, row.learned_tokens) for row in rows}) != 1:
        raise SystemExit(f"the ways do not train the same tokens: {rows}")
    return rows


def _epoch(options: argparse.Namespace, way: str, examples: ExampleFile) -> list[Batch]:
    settings = Finetune.model_validate(
        {
            "batching": _WAYS[way],
            "max_length_tokens": options.max_length,
            "micro_batch_size": options.micro_batch,
        }
    )
    batching = batching_of(settings, examples, pad_token_id=0)
    count = len(batching.rows)  # type: ignore[arg-type]
    order = list(
        batching.sampler or torch.randperm(count, generator=torch.Generator().manual_seed(1))
    )
    size = options.micro_batch
    batches = [
        batching.collate([batching.rows[int(i)] for i in order[at : at + size]])
        for at in range(0, count, size)
    ]
    return (
        [_to_full_length(b, options.max_length) for b in batches] if way == _FASTCHAT else batches
    )


def _to_full_length(batch: Batch, length: int) -> Batch:
    """Pad as FastChat's `preprocess` does: `padding="max_length"`."""
    missing = length - batch["input_ids"].shape[1]
    fill = {"input_ids": 0, "labels": IGNORED, "attention_mask": 0}
    return {
        name: torch.nn.functional.pad(tensor, (0, missing), value=fill[name])
        for name, tensor in batch.items()
    }


def _spread(batches: list[Batch], count: int) -> list[Batch]:
    """Return batches from all over the epoch."""
    places = np.linspace(0, len(batches) - 1, min(count, len(batches))).round().astype(int)
    return [batches[place] for place in places]


def _padding(batch: Batch) -> int:
    """Return how many tokens are padding: id 0 is used for nothing else here."""
    return int((batch["input_ids"] == 0).sum())


def _useful_tokens_per_s(model: PreTrainedModel, batches: list[Batch]) -> float:
    useful = sum(batch["input_ids"].numel() - _padding(batch) for batch in batches)
    start = time.perf_counter()
    for batch in batches:
        model.zero_grad()
        model(**{name: tensor.to(model.device) for name, tensor in batch.items()}).loss.backward()
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return useful / (time.perf_counter() - start)


def _row(name: str, way: str, epoch: list[Batch], speeds: list[float]) -> Row:
    tokens = sum(batch["input_ids"].numel() for batch in epoch)
    padding = sum(map(_padding, epoch))
    learned = sum(int((batch["labels"] != IGNORED).sum()) for batch in epoch)
    return Row(
        name,
        way,
        len(epoch),
        padding / tokens,
        tokens - padding,
        learned,
        statistics.median(speeds),
        min(speeds),
        max(speeds),
    )


def _sets(
    options: argparse.Namespace, tokenizer: PreTrainedTokenizerFast, scratch: Path
) -> dict[str, ExampleFile]:
    encoder = Encoder(tokenizer, options.template, options.max_length)
    starter = [encoder.encode(conversation) for conversation in load_conversations(_STARTER)]
    starter = [example for example in starter if example.input_ids]
    sets = {"starter set": starter, "long-tailed set": _long_tailed(options, starter)}
    return {name: _written(scratch / name, examples) for name, examples in sets.items()}


def _long_tailed(options: argparse.Namespace, starter: list[Example]) -> list[Example]:
    """Return as many examples as asked, most of them short, some as long as may be."""
    random = np.random.default_rng(1)
    ids = [i for example in starter for i in example.input_ids]
    labels = [i for example in starter for i in example.labels]
    drawn = np.exp(random.normal(np.log(250), 1.1, options.long_tailed)).round().astype(int)
    lengths = drawn.clip(24, min(options.max_length, len(ids)))
    starts = random.integers(0, len(ids) - lengths + 1)
    return [
        Example(ids[start : start + length], [IGNORED, *labels[start + 1 : start + length]])
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
    ]


def _written(path: Path, examples: list[Example]) -> ExampleFile:
    with ExampleWriter(path) as writer:
        for example in examples:
            writer.add(example)
        writer.finish()
    return ExampleFile(path)


def _model(options: argparse.Namespace) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    on_cpu = getattr(torch, compute_dtype("bfloat16", read_cpu()))
    dtype = torch.bfloat16 if options.device == "cuda" else on_cpu
    if options.model is not None:
        model = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(options.model)
    else:
        tokenizer = learned_tokenizer()
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=options.hidden,
            intermediate_size=options.hidden * 11 // 4,
            num_hidden_layers=options.layers,
            num_attention_heads=max(1, options.hidden // 64),
            max_position_embeddings=options.max_length,
            pad_token_id=0,
        )
        model = LlamaForCausalLM(config).to(dtype)
    model.config.use_cache = False
    return model.to(options.device).train(), tokenizer


def learned_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of 4000 pieces that has learned the starter set."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    texts = [
        turn.text for conversation in load_conversations(_STARTER) for turn in conversation.turns
    ]
    special = ["<pad>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=4000,
            special_tokens=special,
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def _tell_ratios(rows: list[Row]) -> None:
    """Print FastChat's useful tokens a second by those of each way: less is better."""
    for row in rows:
        if row.way != _FASTCHAT:
            (slow,) = (r for r in rows if r.data == row.data and r.way == _FASTCHAT)
            ratio = round(slow.useful_tokens_per_s / row.useful_tokens_per_s, 3)
            print(json.dumps({"row": f"batches, {row.data}, {row.way}", "ratio": ratio}))


def _publish(
    options: argparse.Namespace, model: PreTrainedModel, rows: list[Row], work: Path
) -> None:
    facts = {
        "model": "random LLaMA" if options.model is None else options.model.name,
        "parameters": model.num_parameters(),
        "device": options.device,
        "threads": torch.get_num_threads(),
        "cores": usable_cores(),
        "micro_batch_size": options.micro_batch,
        "max_length_tokens": options.max_length,
        "batches_measured": options.batches,
        "rounds": options.repeats,
        "attention": model.config._attn_implementation,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    document = {**facts, "rows": [asdict(row) for row in rows]}
    (work / "batching.json").write_text(json.dumps(document, indent=1) + "\n")
    draw(rows, work / "batching.png", title=f"{options.micro_batch} rows of {options.max_length}")
    print(_table(rows))
    print("\n".join(f"{name}: {value}" for name, value in facts.items()))


def _table(rows: list[Row]) -> str:
    lines = [
        "| data | way | batches | padded | useful tokens/s | x FastChat |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        (slow,) = (r for r in rows if r.data == row.data and r.way == _FASTCHAT)
        gain = row.useful_tokens_per_s / slow.useful_tokens_per_s
        lines.append(
            f"| {row.data} | {row.way} | {row.batches} | {row.padded_share:.1%} "
            f"| {row.useful_tokens_per_s:,.0f} | {gain:.2f} |"
        )
    return "\n".join(lines)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a model directory, instead of a random one")
    parser.add_argument("--template", default="vicuna_v1.1")
    parser.add_argument("--hidden", type=int, default=256, help="of the random model")
    parser.add_argument("--layers", type=int, default=4, help="of the random model")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--micro-batch", type=int, default=4)
    parser.add_argument("--batches", type=int, default=8, help="measured of each way, a round")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--long-tailed", type=int, default=1000, help="conversations of that set")
    parser.add_argument("--workdir", type=Path, default=Path(".benchmarks"))
    parser.add_argument("--quick", action="store_true", help="a tiny model, ratios as JSON lines")
    options = parser.parse_args(arguments)
    if options.quick:
        options.hidden, options.layers, options.long_tailed = 64, 2, 200
        options.batches, options.repeats = 2, 1
    return options


if __name__ == "__main__":
    main()
