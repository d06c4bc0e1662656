"""RoPE scaling against its published formulas, computed here without transformers."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from tasks.core.architecture.directory import context_tokens_of
from tasks.core.architecture.module_values import inverse_frequencies
from tasks.core.architecture.proof.edit_proof import ProofRequest
from tasks.core.architecture.proof.entry import make_proof
from tasks.core.recipe import Edit, RopeScalingEdit

TRAINED, FACTOR, HEAD_DIM, THETA = 2048, 4.0, 8, 10000.0
RopeType = Literal["linear", "dynamic", "yarn"]
EXPONENTS = torch.arange(0, HEAD_DIM, 2, dtype=torch.float64) / HEAD_DIM


def _scaled(rope_type: RopeType) -> Edit:
    return Edit(activations=(), rope_scaling=RopeScalingEdit(rope_type=rope_type, factor=FACTOR))


def _load(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True)


def _linear() -> torch.Tensor:
    """Position interpolation, arXiv:2306.15595."""
    return torch.pow(THETA, -EXPONENTS) / FACTOR


def _dynamic() -> torch.Tensor:
    """NTK-aware scaling of the base by the length at hand, here the whole lengthened context."""
    length = TRAINED * FACTOR
    stretch = FACTOR * length / TRAINED - (FACTOR - 1)
    return torch.pow(THETA * stretch ** (HEAD_DIM / (HEAD_DIM - 2)), -EXPONENTS)


def _yarn() -> torch.Tensor:
    """NTK by parts with alpha = 1, beta = 32, arXiv:2309.00071, section 3.2; ends truncated."""

    def dimension(rotations: float) -> float:
        return HEAD_DIM * math.log(TRAINED / (rotations * 2 * math.pi)) / (2 * math.log(THETA))

    low = max(math.floor(dimension(32)), 0)
    high = min(math.ceil(dimension(1)), HEAD_DIM - 1)
    ramp = ((torch.arange(HEAD_DIM // 2, dtype=torch.float64) - low) / (high - low)).clamp(0, 1)
    plain = torch.pow(THETA, -EXPONENTS)
    return plain / FACTOR * ramp + plain * (1 - ramp)


@pytest.mark.parametrize(
    ("rope_type", "formula"), [("linear", _linear), ("dynamic", _dynamic), ("yarn", _yarn)]
)
def test_loaded_model_rotates_by_the_published_formula(
    stock: Path,
    edit_into: Callable[..., Path],
    rope_type: RopeType,
    formula: Callable[[], torch.Tensor],
) -> None:
    model = _load(edit_into(stock, _scaled(rope_type)))
    seen = inverse_frequencies(model, int(TRAINED * FACTOR) - 1)
    assert torch.allclose(seen, formula().float(), rtol=1e-5)
    assert model.kawan_usaha_report()["rope_alive"]


@pytest.mark.parametrize("rope_type", ["linear", "dynamic", "yarn"])
@pytest.mark.parametrize("memory_bytes", [None, 0])
def test_scaling_alone_is_proven(
    stock: Path,
    edit_into: Callable[..., Path],
    rope_type: RopeType,
    memory_bytes: int | None,
) -> None:
    edit = _scaled(rope_type)
    proof = make_proof(
        ProofRequest(
            model=edit_into(stock, edit), edit=edit, unedited=stock, memory_bytes=memory_bytes
        )
    )
    assert proof.passed
    assert proof.rope_after["rope_type"] == rope_type
    assert f"| RoPE | default | {rope_type} × 4.0 |" in proof.table()


def test_dynamic_scaling_changes_nothing_within_the_trained_length(
    stock: Path, edit_into: Callable[..., Path]
) -> None:
    """Why the proof looks at the end of the lengthened context: a short prompt shows nothing."""
    prompt = torch.tensor([[1, 40, 71, 102]])
    edited, plain = _load(edit_into(stock, _scaled("dynamic"))), _load(stock)
    with torch.inference_mode():
        assert torch.equal(edited(prompt).logits, plain(prompt).logits)


@pytest.mark.parametrize(
    ("parameters", "maximum", "expected"),
    [
        ({"rope_type": "default"}, 2048, 2048),
        ({"rope_type": "linear", "factor": 4.0}, 2048, 8192),
        ({"rope_type": "dynamic", "factor": 2.0}, 4096, 8192),
        (
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048},
            2048,
            8192,
        ),
        (
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048},
            8192,
            8192,
        ),
    ],
)
def test_context_is_the_trained_length_times_the_factor(
    parameters: dict[str, Any], maximum: int, expected: int
) -> None:
    config = LlamaConfig(max_position_embeddings=maximum, rope_parameters=parameters)
    assert context_tokens_of(config) == expected


def test_looking_at_dynamic_scaling_leaves_the_model_as_it_was(stock: Path) -> None:
    rope = {"rope_type": "dynamic", "factor": FACTOR, "rope_theta": THETA}
    model = LlamaForCausalLM.from_pretrained(stock, rope_parameters=rope)
    before = model.model.rotary_emb.inv_freq.clone()
    assert not torch.equal(inverse_frequencies(model, 8191), before)
    assert torch.equal(model.model.rotary_emb.inv_freq, before)
