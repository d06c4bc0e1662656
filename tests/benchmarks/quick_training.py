"""The quick form of bench_training: one step of ours against a plain one, in one process.

    python -m tests.benchmarks.bench_training --quick

The peer is what Trainer and TRL's packing come to on a CPU: the same tokens laid end to end in a
row, causal attention over the whole row, logits of every token. Same model, adapter, type, tokens
and labels. Loading, data and optimizer are left out: they are small or the same.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.llama import modeling_llama

from tasks.core.conversation.examples.file import ExampleFile
from tasks.core.conversation.prepared import prepare_examples
from tasks.core.machine.cpu import compute_dtype, read_cpu
from tasks.core.recipe import Finetune
from tasks.core.training.batching.choice import batching_of
from tasks.core.training.model.base_model import read_base_model
from tasks.core.training.model.learned_head import learned_only
from tasks.core.training.model.packed_attention import bounds_of
from tests.benchmarks.demo_model import save_demo_model

ROW_TOKENS = 512
ROUNDS = 2
CPU = torch.device("cpu")
ROTATION = modeling_llama.apply_rotary_pos_emb
"""transformers' own, which is replaced for the whole process once our model is loaded."""
DATA = Path(__file__).parents[2] / "data" / "conversation.json"

Batch = dict[str, torch.Tensor]


def main(template: str) -> None:
    """Print one JSON line for each row: its name, and our time by the peer's."""
    with tempfile.TemporaryDirectory(prefix="bench-training-") as work:
        model = save_demo_model(Path(work) / "model")
        settings = Finetune(
            device="cpu",
            language=None,
            precision=compute_dtype("bfloat16", read_cpu()),
            batching="pack",
            zero_stage=0,
            max_length_tokens=ROW_TOKENS,
        )
        batch = first_row(model, settings, template, Path(work))
        ours, plain = adapted(read_base_model(model, settings, CPU)), adapted(plain_model(model))
    told = learned_only(batch) | bounds_of(batch["position_ids"])
    peers = {name: batch[name] for name in ("input_ids", "labels")}

    def plain_step() -> None:
        with patch.object(modeling_llama, "apply_rotary_pos_emb", ROTATION):
            step(plain, peers)

    ours_s, plain_s = fastest(lambda: step(ours, told), plain_step)
    ratio = round(ours_s / plain_s, 3)
    print(json.dumps({"row": "training step, packed, CPU", "ratio": ratio}), flush=True)


def plain_model(path: Path) -> PreTrainedModel:
    """Return the model as transformers loads it, in the type that the CPU is fast in."""
    dtype = getattr(torch, compute_dtype("bfloat16", read_cpu()))
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    model.config.use_cache = False
    return model.train()


def first_row(model: Path, settings: Finetune, template: str, work: Path) -> Batch:
    """Return the fullest row of the demo's conversations as a batch of one."""
    prepared = prepare_examples(model, DATA, settings, template, out=work)
    batching = batching_of(settings, ExampleFile(prepared.examples), prepared.pad_token_id)
    return batching.collate([batching.rows[next(iter(batching.sampler))]])


def adapted(model: PreTrainedModel) -> PeftModel:
    """Return the model with the original's adapter on it, as a training has it."""
    torch.manual_seed(0)
    config = LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=["q_proj", "v_proj"])
    return get_peft_model(model, config, autocast_adapter_dtype=False).train()


def step(model: PeftModel, batch: Batch) -> None:
    """Compute a micro batch forwards and backwards."""
    model.zero_grad()
    model(**batch).loss.backward()


def fastest(*steps: Callable[[], None]) -> list[float]:
    """Return the shortest time of each step in seconds, taken in turn: other work hits all."""
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(ROUNDS):
        for taken, run in zip(times, steps, strict=True):
            started = time.perf_counter()
            run()
            taken.append(time.perf_counter() - started)
    return [min(taken) for taken in times]
