"""The edited directory in PEFT, FastChat and DeepSpeed, and from a Hub at a revision."""

# mypy: allow-untyped-calls
import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from tasks.core.demo.hub import HubAccount, running_hub
from tests.prefork import preforked

PROMPT = torch.tensor([[1, 40, 71, 102, 133, 164, 195, 226]])


def _load(path: Path | str, **arguments: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True, **arguments)


def _logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(PROMPT, use_cache=False).logits
    return logits


# --- PEFT ----------------------------------------------------------------------------------


def test_peft_trains_an_adapter_and_merges_it_with_the_edit_alive(
    edited: Path, tmp_path: Path
) -> None:
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(_load(edited, dtype=torch.float32), lora)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = model(PROMPT, labels=PROMPT).loss
    before.backward()
    optimizer.step()
    assert model(PROMPT, labels=PROMPT).loss < before
    assert model.kawan_usaha_report()["alive"]
    fused = model.merge_and_unload()
    fused.save_pretrained(tmp_path / "fused")
    again = _load(tmp_path / "fused")
    assert again.kawan_usaha_report()["activations"] == ["silu", "silu", "gelu"]
    assert torch.equal(_logits(again), _logits(fused))


def test_peft_needs_its_target_modules_named(edited: Path) -> None:
    """If this fails, PEFT has learned the model type, and the model card may say less."""
    with pytest.raises(ValueError, match="target_modules"):
        get_peft_model(_load(edited), LoraConfig(task_type="CAUSAL_LM"))


# --- FastChat ------------------------------------------------------------------------------


def test_fastchat_loads_it_with_the_edit_alive(stock: Path, edited: Path) -> None:
    from fastchat.model import load_model

    model, tokenizer = load_model(str(edited), device="cpu")
    reference: Any = LlamaForCausalLM.from_pretrained(stock, dtype=torch.float32)
    reference.model.layers[-1].mlp.act_fn = torch.nn.GELU()
    assert model.kawan_usaha_report()["alive"]
    assert torch.equal(_logits(model), _logits(reference))
    assert tokenizer("warung").input_ids


@pytest.fixture
def cheap_collections() -> Iterator[None]:
    """FastChat collects garbage after every tensor; with the libraries loaded that is slow."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("cheap_collections")
def test_fastchat_loads_it_in_8_bits_with_the_edit_alive(edited: Path) -> None:
    from fastchat.model import load_model

    model, _ = load_model(str(edited), device="cpu", load_8bit=True)
    mlp = model.model.layers[-1].mlp
    assert type(mlp.gate_proj).__name__ == "CLinear"
    assert model.kawan_usaha_report()["activations"] == ["silu", "silu", "gelu"]
    full = _logits(_load(edited, dtype=torch.float32))
    mlp.act_fn, gelu = torch.nn.SiLU(), mlp.act_fn
    without = (_logits(model) - full).abs().mean()
    mlp.act_fn = gelu
    # Rounding to 8 bits moves the logits less than losing the edit does.
    assert (_logits(model) - full).abs().mean() < without


# --- DeepSpeed -----------------------------------------------------------------------------

_ZERO_3 = """
import json, sys, torch
from transformers.integrations import HfDeepSpeedConfig
import deepspeed
deepspeed.init_distributed(dist_backend="gloo")
config = {"zero_optimization": {"stage": 3}, "train_micro_batch_size_per_gpu": 1}
kept = HfDeepSpeedConfig(config)
from transformers import AutoModelForCausalLM
path, options = sys.argv[1], {"trust_remote_code": True, "dtype": torch.float32}
model = AutoModelForCausalLM.from_pretrained(path, **options)
parted = [p for p in model.parameters() if hasattr(p, "ds_id")]
engine = deepspeed.initialize(model=model, config=config)[0]
with torch.no_grad():
    logits = engine(torch.tensor([[1, 40, 71]])).logits
print("ANSWER " + json.dumps({
    "parted": len(parted),
    "parameters": len(list(model.parameters())),
    "report": engine.module.kawan_usaha_report(),
    "logits": logits.tolist(),
}))
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_deepspeed_zero_3_divides_it_with_the_edit_alive(edited: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "DS_ACCELERATOR": "cpu"}
    child = subprocess.run(
        [sys.executable, "-c", _ZERO_3, str(edited)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-3000:]
    answer = next(line for line in child.stdout.splitlines() if line.startswith("ANSWER "))
    seen = json.loads(answer.removeprefix("ANSWER "))
    assert seen["parted"] == seen["parameters"] > 0
    assert seen["report"]["alive"]
    with torch.inference_mode():
        expected = _load(edited, dtype=torch.float32)(torch.tensor([[1, 40, 71]])).logits
    assert torch.allclose(torch.tensor(seen["logits"]), expected, atol=1e-6)


# --- the Hub -------------------------------------------------------------------------------


def test_revision_of_a_hub_repository_loads_with_the_edit_of_that_revision(
    stock: Path, edited: Path, tmp_path: Path
) -> None:
    with running_hub(tmp_path / "hub", tokens={"hf_owner": HubAccount("warung")}) as hub:
        api = HfApi(endpoint=hub.url, token="hf_owner")
        api.create_repo("warung/model")
        first = api.upload_folder(repo_id="warung/model", folder_path=edited).oid
        api.upload_folder(repo_id="warung/model", folder_path=stock, delete_patterns="*.py")
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
        environment["HF_MODULES_CACHE"] = str(tmp_path / "modules")
        child = subprocess.run(
            preforked("torch", "tests.loading", "warung/model", first),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert child.returncode == 0, child.stderr[-3000:]
    report = json.loads(child.stdout.splitlines()[-1])["report"]
    assert report["activations"] == ["silu", "silu", "gelu"]
    assert report["alive"]
