"""`target_parameters` are fused as PEFT does: matrices, stacks of experts, and joined experts."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    GptOssConfig,
    Lfm2MoeConfig,
    Llama4ForCausalLM,
    Llama4TextConfig,
    MixtralConfig,
    Qwen3MoeConfig,
    conversion_mapping,
)

from tasks.core.errors import AdapterMismatch
from tasks.core.weights.adapter_parameters import DOWNS, EXPERTS_IN_BY_OUT, GATES, UNGATED, UPS
from tasks.core.weights.fuse import fuse_adapter
from tests.unit.weights.adapters import (
    assert_within_one_rounding,
    configure,
    fused_by_peft,
    loaded,
    rewrite,
    train,
)
from tests.unit.weights.models import base_model, same_bits, save, state_dict_of

BOTH = ["experts.gate_up_proj", "experts.down_proj"]
SIZES = {
    "vocab_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "tie_word_embeddings": False,
}


def _gpt_oss(path: Path, *, dtype: str = "float32", experts: int = 3, **sizes: int) -> Path:
    """Experts stored (experts, in, out), one file; square down_proj where hidden is inner."""
    config = GptOssConfig(
        **SIZES,
        hidden_size=sizes.get("hidden", 32),
        intermediate_size=sizes.get("inner", 24),
        num_local_experts=experts,
        num_experts_per_tok=min(experts, 2),
    )
    return _saved(AutoModelForCausalLM.from_config(config), path, dtype)


def _llama4(path: Path, dtype: str = "float32") -> Path:
    """Experts stored (experts, in, out), but called (experts, out, in) by PEFT."""
    config = Llama4TextConfig(
        **SIZES,
        hidden_size=32,
        intermediate_size=24,
        intermediate_size_mlp=24,
        num_local_experts=3,
        pad_token_id=0,
    )
    return _saved(Llama4ForCausalLM(config), path, dtype)


def _mixtral(path: Path, dtype: str = "float32") -> Path:
    """Joined by transformers; in the file block_sparse_moe.experts.N.w1, w2, w3."""
    config = MixtralConfig(**SIZES, hidden_size=32, intermediate_size=24, num_local_experts=3)
    return _saved(AutoModelForCausalLM.from_config(config), path, dtype)


def _qwen3_moe(path: Path, dtype: str = "float32") -> Path:
    """Joined by transformers; in the file mlp.experts.N.gate_proj, up_proj, down_proj."""
    config = Qwen3MoeConfig(
        **SIZES, hidden_size=32, moe_intermediate_size=16, num_experts=4, num_experts_per_tok=2
    )
    return _saved(AutoModelForCausalLM.from_config(config), path, dtype)


def _saved(model: torch.nn.Module, path: Path, dtype: str) -> Path:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape))
    model.to(getattr(torch, dtype)).save_pretrained(path)
    return path


def _peft_s_file(model: Path, adapter: Path, path: Path) -> Path:
    """Save what PEFT fuses, so that transformers divides joined experts again."""
    fused = loaded(model)
    fused.load_state_dict(fused_by_peft(model, adapter))
    fused.save_pretrained(path)
    return path


def _assert_fused_as_peft(model: Path, adapter: Path, tmp_path: Path) -> None:
    """In 16 bits PEFT rounds the change before it is added: a rounding more."""
    fuse_adapter(model, adapter, tmp_path / "out")
    ours = state_dict_of(tmp_path / "out")
    theirs = state_dict_of(_peft_s_file(model, adapter, tmp_path / "peft"))
    assert_within_one_rounding(model, ours, theirs, more=2)
    assert not same_bits(ours, state_dict_of(model))


MODELS = {
    "gpt_oss": _gpt_oss,
    "llama4": _llama4,
    "mixtral": _mixtral,
    "qwen3_moe": _qwen3_moe,
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_experts_are_fused_as_peft_does(tmp_path, monkeypatch, make, dtype):
    model = make(tmp_path / "model", dtype=dtype)
    adapter = train(model, tmp_path / "adapter", target_parameters=BOTH)
    monkeypatch.setattr("tasks.core.weights.layout.PIECE_BYTES", 1000)  # an expert in pieces
    _assert_fused_as_peft(model, adapter, tmp_path)


OPTIONS = {
    "rank and alpha patterns": {
        "rank_pattern": {"layers.1.mlp.experts.gate_up_proj": 2, "down_proj": 3},
        "alpha_pattern": {"down_proj": 5},
    },
    "rslora": {"use_rslora": True},
    "one of two": {"target_parameters": ["experts.down_proj"]},
    "one layer": {"target_parameters": ["layers.1.mlp.experts.gate_up_proj"]},
    "the router": {"target_parameters": [*BOTH, "mlp.gate.weight"]},
    "parameters alone": {"target_modules": []},
}


@pytest.mark.parametrize("make", [_mixtral, _qwen3_moe])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_every_option_of_peft_means_the_same_for_joined_experts(tmp_path, make, options):
    model = make(tmp_path / "model")
    adapter = train(model, tmp_path / "adapter", **{"target_parameters": BOTH, **options})
    _assert_fused_as_peft(model, adapter, tmp_path)


def test_square_experts_are_stored_as_the_others_of_the_model(tmp_path):
    """gpt-oss-20b: hidden and inner size are both 2880, so down_proj is square."""
    model = _gpt_oss(tmp_path / "model", hidden=32, inner=32)
    adapter = train(model, tmp_path / "adapter", target_parameters=BOTH)
    _assert_fused_as_peft(model, adapter, tmp_path)


def test_square_experts_alone_are_told_by_the_architecture(tmp_path):
    model = _gpt_oss(tmp_path / "model", hidden=32, inner=32)
    adapter = train(model, tmp_path / "adapter", target_parameters=["experts.down_proj"])
    _assert_fused_as_peft(model, adapter, tmp_path)


@pytest.mark.parametrize(
    "fields", [{"model_type": "own"}, {"auto_map": {"AutoConfig": "own.Config"}}]
)
def test_square_experts_of_unknown_code_are_refused(tmp_path, fields):
    model = _gpt_oss(tmp_path / "model", hidden=32, inner=32)
    adapter = train(model, tmp_path / "adapter", target_parameters=["experts.down_proj"])
    configure(model, "config.json", **fields)
    with pytest.raises(AdapterMismatch, match="cannot be determined"):
        fuse_adapter(model, adapter, tmp_path / "out")


def test_a_single_expert_is_a_matrix_as_it_is_for_peft(tmp_path):
    """Even where the model stores it (in, out): PEFT trains and merges B @ A as it is."""
    model = _gpt_oss(tmp_path / "model", hidden=32, inner=32, experts=1)
    adapter = train(model, tmp_path / "adapter", target_parameters=["experts.down_proj"])
    _assert_fused_as_peft(model, adapter, tmp_path)


def test_a_single_expert_whose_update_peft_itself_cannot_add_is_refused(tmp_path):
    model = _gpt_oss(tmp_path / "model", hidden=32, inner=24, experts=1)
    adapter = train(model, tmp_path / "adapter", target_parameters=["experts.down_proj"])
    with pytest.raises(RuntimeError, match="size of tensor"):
        fused_by_peft(model, adapter)
    with pytest.raises(AdapterMismatch, match="do not fit"):
        fuse_adapter(model, adapter, tmp_path / "out")


def test_a_linear_layer_s_weight_may_be_named_as_a_parameter(tmp_path):
    model = base_model(tmp_path / "model", dtype="float32")
    names = ["mlp.gate_proj.weight", "self_attn.k_proj.weight"]
    adapter = train(model, tmp_path / "adapter", target_parameters=names)
    _assert_fused_as_peft(model, adapter, tmp_path)


def test_experts_in_shards_are_fused_as_those_in_one_file(tmp_path):
    model = _qwen3_moe(tmp_path / "model")
    adapter = train(model, tmp_path / "adapter", target_parameters=BOTH)
    fuse_adapter(model, adapter, tmp_path / "one")
    save(model, state_dict_of(model), form="many")
    fuse_adapter(model, adapter, tmp_path / "two", max_shard_bytes=10_000)
    assert len(list((tmp_path / "two").glob("*.safetensors"))) > 1
    assert same_bits(state_dict_of(tmp_path / "one"), state_dict_of(tmp_path / "two"))


E = "base_model.model.model.layers.0.mlp.experts"
FAULTS = {
    "the inner layer": (
        lambda t: {n: v for n, v in t.items() if not n.startswith(f"{E}.base_layer")},
        "1 updates for",
    ),
    "one side": (lambda t: {n: v for n, v in t.items() if n != f"{E}.lora_A.weight"}, "A or B"),
    "layer 0 alone": (lambda t: {n: v for n, v in t.items() if ".0." in n}, "not complete"),
    "an expert too few": (
        lambda t: {**t, f"{E}.lora_A.weight": t[f"{E}.lora_A.weight"][4:]},
        "do not fit",
    ),
    "a layer too many": (
        lambda t: {
            **t,
            f"{E}.base_layer.base_layer.lora_A.weight": torch.ones(4, 32),
            f"{E}.base_layer.base_layer.lora_B.weight": torch.ones(32, 4),
        },
        "3 updates for",
    ),
    "a magnitude": (
        lambda t: {**t, f"{E}.lora_magnitude_vector": torch.ones(32)},
        "DoRA magnitude",
    ),
}


@pytest.mark.parametrize(("change", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_layers_that_are_missing_or_do_not_fit_are_told_by_their_cause(tmp_path, change, words):
    model = _qwen3_moe(tmp_path / "model")
    adapter = train(model, tmp_path / "adapter", target_parameters=BOTH)
    assert f"{E}.base_layer.lora_A.weight" in load_file(adapter / "adapter_model.safetensors")
    rewrite(adapter, change)
    with pytest.raises(AdapterMismatch, match=words):
        fuse_adapter(model, adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_end_of_a_model_that_ties_its_embeddings_is_refused_as_a_parameter_too(tmp_path):
    model = base_model(tmp_path / "model", dtype="float32")
    names = ["model.embed_tokens.weight"]
    adapter = train(model, tmp_path / "adapter", target_parameters=names)
    configure(model, "config.json", tie_word_embeddings=True)
    with pytest.raises(AdapterMismatch, match="ties its embeddings"):
        fuse_adapter(model, adapter, tmp_path / "out")


def test_a_layer_within_a_layer_is_refused_where_no_parameter_is_targeted(tmp_path):
    model = base_model(tmp_path / "model", dtype="float32")
    adapter = train(model, tmp_path / "adapter")
    rewrite(adapter, lambda t: {n.replace(".lora_", ".base_layer.lora_"): v for n, v in t.items()})
    with pytest.raises(AdapterMismatch, match="target_parameters does not name"):
        fuse_adapter(model, adapter, tmp_path / "out")


def test_two_parameters_of_one_shape_are_refused(tmp_path):
    """PEFT names its layers by the order of the class, which no file holds."""
    model = _qwen3_moe(tmp_path / "model")
    weights = state_dict_of(model)
    stack = torch.zeros(4, 32, 16)
    save(model, {**weights, **{f"model.layers.0.mlp.own.{name}": stack.clone() for name in "ab"}})
    adapter = train(model, tmp_path / "adapter", target_parameters=["gate.weight"])
    configure(adapter, "adapter_config.json", target_parameters=["gate.weight", "own.a", "own.b"])
    own = "base_model.model.model.layers.0.mlp.own"
    layers = {
        f"{own}{inner}.lora_{side}.weight": torch.zeros(shape)
        for inner in ("", ".base_layer")
        for side, shape in (("A", (16, 16)), ("B", (32, 16)))
    }
    rewrite(adapter, lambda t: {**t, **layers})
    with pytest.raises(AdapterMismatch, match="Which update is for which"):
        fuse_adapter(model, adapter, tmp_path / "out")


def test_an_expert_that_the_model_lacks_leaves_nothing_to_fuse_onto(tmp_path):
    model = _qwen3_moe(tmp_path / "model")
    adapter = train(model, tmp_path / "adapter", target_parameters=BOTH)
    weights = state_dict_of(model)
    save(model, {n: v for n, v in weights.items() if ".0.mlp.experts.2.up_proj" not in n})
    with pytest.raises(AdapterMismatch):
        fuse_adapter(model, adapter, tmp_path / "out")


def test_the_models_that_store_experts_in_by_out_are_those_of_the_installed_transformers():
    root = Path(transformers.__file__).parent / "models"
    found = {
        path.parent.name
        for path in root.glob("*/modeling_*.py")
        if "is_transposed=True" in path.read_text()
    }
    assert found == {kind.removesuffix("_text") for kind in EXPERTS_IN_BY_OUT}


def test_transformers_joins_experts_as_is_assumed_here():
    """Gate before up, along the rows; each expert is a matrix of the stack."""
    seen = set()
    for sources, targets, operations in _conversions():
        leaves = [re.sub(r".*experts\\?\.\*\\?\.", "", s).removesuffix(".weight") for s in sources]
        if not all("experts" in s and "*" in s for s in sources) or len(targets) > 1:
            continue
        if set(leaves) <= {*GATES, *UPS, *DOWNS}:
            seen.add((*dict.fromkeys(leaves), targets[0].rpartition(".")[2], operations))
    merged, joined = "MergeModulelist(dim=0)", "MergeModulelist(dim=0), Concatenate(dim=1)"
    assert seen == {
        *((gate, up, "gate_up_proj", joined) for gate, up in zip(GATES, UPS, strict=True)),
        *((down, "down_proj", merged) for down in DOWNS),
        (UNGATED, UNGATED, merged),
    }


def _conversions() -> Iterator[tuple[list[str], list[str], str]]:
    """Yield sources, targets and operations of each WeightConverter that transformers has."""
    import ast

    for node in ast.walk(ast.parse(inspect.getsource(conversion_mapping))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "WeightConverter":
            given = {word.arg: word.value for word in node.keywords}
            if given.keys() < {"source_patterns", "target_patterns", "operations"}:
                continue
            sources, targets = (
                [item.value for item in ast.walk(given[name]) if isinstance(item, ast.Constant)]
                for name in ("source_patterns", "target_patterns")
            )
            yield sources, targets, ast.unparse(given["operations"])[1:-1]


def test_experts_that_are_no_modules_are_not_missed_among_target_modules(tmp_path):
    """w1 and w2 are modules of the dense layer; those of the experts are joined."""
    config = Lfm2MoeConfig(
        **SIZES,
        hidden_size=32,
        intermediate_size=24,
        moe_intermediate_size=16,
        num_experts=4,
        num_experts_per_tok=2,
        num_dense_layers=1,
        layer_types=["full_attention", "full_attention"],
    )
    model = _saved(AutoModelForCausalLM.from_config(config), tmp_path / "model", "float32")
    adapter = train(model, tmp_path / "adapter", target_modules=["w1", "w2"])
    _assert_fused_as_peft(model, adapter, tmp_path)


@pytest.mark.parametrize("whole", [True, False])
def test_an_adapter_of_single_experts_from_transformers_4_is_fused_or_missed(tmp_path, whole):
    model = _mixtral(tmp_path / "model")
    adapter = train(model, tmp_path / "adapter")
    configure(adapter, "adapter_config.json", target_modules=["w2"])
    experts = [n.removesuffix(".weight") for n in state_dict_of(model) if n.endswith(".w2.weight")]
    rewrite(
        adapter,
        lambda _: {
            f"base_model.model.{module}.lora_{side}.weight": torch.ones(shape)
            for module in experts[: None if whole else 2]
            for side, shape in (("A", (4, 24)), ("B", (32, 4)))
        },
    )
    if whole:
        fuse_adapter(model, adapter, tmp_path / "out")
        before, after = state_dict_of(model), state_dict_of(tmp_path / "out")
        torch.testing.assert_close(
            after[f"{experts[0]}.weight"], before[f"{experts[0]}.weight"] + 8
        )
    else:
        with pytest.raises(AdapterMismatch, match="found: 4 without one"):
            fuse_adapter(model, adapter, tmp_path / "out")
