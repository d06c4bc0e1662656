"""The demo's base and delta."""

import subprocess
import sys

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from tasks.core.demo import models as demo_models
from tasks.core.demo.hub import running_hub
from tasks.core.demo.models import BASE_REPO, DELTA_REPO, make_demo_repositories, split
from tasks.core.errors import MissingTool
from tasks.core.hub.download.model import download_model, resolve_model
from tests.models import tiny_llama

EXTREMES = [0.0, 6e-8, -6e-8, 6.1e-5, 1 / 3, -9.25, 32736.0, -32736.0]


def test_without_the_package_the_next_step_is_told(monkeypatch):
    monkeypatch.setattr(demo_models.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingTool, match="pip install"):
        make_demo_repositories()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_base_and_delta_add_up_to_every_bit_of_the_target(dtype):
    generator = torch.Generator().manual_seed(1)
    target = {
        "random": torch.randn(64, 300, generator=generator).to(dtype),
        "extremes": torch.tensor(EXTREMES * 50, dtype=dtype),
    }
    base, delta = split(target)
    for name, weight in target.items():
        assert base[name].dtype == delta[name].dtype == dtype
        assert torch.equal(base[name] + delta[name], weight)


def test_about_half_of_the_weights_change_and_two_tensors_change_differently():
    target = {name: torch.ones(100, 100) for name in "ab"}
    base, delta = split(target)
    assert 0.45 < (delta["a"] != 0).float().mean() < 0.55
    assert not torch.equal(base["a"], base["b"])


def test_the_signs_are_the_same_on_every_machine():
    """A change here makes other repositories: raise _VERSION with it."""
    base, _ = split({"a": torch.ones(16)})
    assert (base["a"] > 0).int().tolist() == [0, 1, 0, 1, 1, 0, 1, 0, 0, 0, 0, 1, 1, 0, 1, 1]


@pytest.mark.parametrize("without_xet", [True, False])
def test_each_part_of_making_them_is_said_and_nothing_once_they_are_there(
    tmp_path, monkeypatch, without_xet
):
    """A tiny model in place of the real one, which takes half a minute to read."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", without_xet)
    gguf, tiny = tmp_path / "tiny.gguf", tiny_llama(tmp_path / "tiny")
    gguf.write_bytes(b"GGUF")
    parts = LlamaForCausalLM.from_pretrained(tiny), AutoTokenizer.from_pretrained(tiny)
    monkeypatch.setattr(demo_models, "find_gguf", lambda: gguf)
    monkeypatch.setattr(demo_models, "load_gguf", lambda _: parts)
    said = []
    with running_hub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        make_demo_repositories(say=said.append)
        assert [line.rpartition(": ")[2] for line in said] == [
            "reading tiny.gguf.",
            "splitting it into base and delta.",
            f"uploading {BASE_REPO}.",
            f"uploading {DELTA_REPO}.",
        ]
        said.clear()
        make_demo_repositories(say=said.append)
        assert said == []


ANSWER = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
base, delta = (AutoModelForCausalLM.from_pretrained(p, dtype=torch.float16) for p in sys.argv[1:])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
question = [{"role": "user", "content": "What is the capital of France?"}]
ids = tokenizer.apply_chat_template(
    question, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
def answer(model):
    written = model.generate(**ids, max_new_tokens=16, do_sample=False)[0]
    return tokenizer.decode(written[ids["input_ids"].shape[1] :], skip_special_tokens=True)
print("base:", answer(base).splitlines())
sum_ = {name: w + delta.state_dict()[name] for name, w in base.state_dict().items()}
base.load_state_dict(sum_)
print("sum:", answer(base).splitlines())
assert not torch.equal(base.lm_head.weight, delta.lm_head.weight)
"""


@pytest.mark.slow
def test_the_base_talks_nonsense_and_base_plus_delta_answers(tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    with running_hub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        first = make_demo_repositories()
        assert first.made == (BASE_REPO, DELTA_REPO)
        again = make_demo_repositories()
        assert (again.tag, again.made) == (first.tag, ())
        for repo in (BASE_REPO, DELTA_REPO):
            resolved = resolve_model(repo, first.tag)
            shards = [file for file in resolved.files if file.path.endswith(".safetensors")]
            assert len(shards) == 3
            download_model(resolved, tmp_path / repo)
    command = [sys.executable, "-c", ANSWER, tmp_path / BASE_REPO, tmp_path / DELTA_REPO]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    base, total = ran.stdout.decode().splitlines()[-2:]
    assert "Paris" not in base
    assert "The capital of France is Paris." in total
