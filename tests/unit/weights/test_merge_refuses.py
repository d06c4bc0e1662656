"""Two sides that do not belong together are refused before a byte is written, with the cause."""

import json
from pathlib import Path

import pytest
import torch

from tasks.core.errors import CorruptWeights, DeltaMismatch, NotAModel
from tasks.core.weights.merge import ValuesNeeded, merge_delta, plan_merge
from tests.unit.files.test_foreign import POINTER
from tests.unit.weights.models import (
    base_model,
    delta_for,
    same_bits,
    save,
    state_dict_of,
)


@pytest.fixture
def base(tmp_path) -> Path:
    return base_model(tmp_path / "base")


@pytest.fixture
def delta(base, tmp_path) -> Path:
    return delta_for(base, tmp_path / "delta")


def _refused(base: Path, delta: Path, out: Path) -> DeltaMismatch:
    with pytest.raises(DeltaMismatch) as caught:
        merge_delta(base, delta, out)
    assert not out.exists()
    return caught.value


def _configure(model: Path, **fields: object) -> None:
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_v0_delta_on_a_base_without_its_extra_token_is_named(base, tmp_path):
    larger = base_model(tmp_path / "larger", vocab=321)
    error = _refused(base, delta_for(larger, tmp_path / "delta"), tmp_path / "out")
    assert "v0 delta" in error.what
    assert (error.expected, error.found) == ("320 tokens, as the base", "321 tokens")
    assert "v1.1" in error.next_step


@pytest.mark.parametrize(
    ("file", "content", "token"),
    [
        ("added_tokens.json", {"<|im_end|>": 320}, "<|im_end|>"),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"320": {"content": "<pad>"}}},
            "<pad>",
        ),
        ("tokenizer.json", {"added_tokens": [{"id": 320, "content": "<sep>"}]}, "<sep>"),
    ],
)
def test_a_token_that_was_added_is_named_and_is_not_taken_for_v0(
    base, tmp_path, file, content, token
):
    delta = delta_for(base_model(tmp_path / "larger", vocab=321), tmp_path / "delta")
    (delta / file).write_text(json.dumps(content))
    error = _refused(base, delta, tmp_path / "out")
    assert token in error.what
    assert "resize_token_embeddings(321)" in error.next_step
    assert "v0" not in str(error)


def test_the_token_of_v0_and_of_others_gets_both_remedies(base, tmp_path):
    delta = delta_for(base_model(tmp_path / "larger", vocab=321), tmp_path / "delta")
    (delta / "added_tokens.json").write_text('{"[PAD]": 320}')
    error = _refused(base, delta, tmp_path / "out")
    assert "v1.1" in error.next_step
    assert "resize_token_embeddings(321)" in error.next_step


def test_another_vocabulary_is_refused_with_both_sizes(base, tmp_path):
    larger = base_model(tmp_path / "larger", vocab=400)
    error = _refused(base, delta_for(larger, tmp_path / "delta"), tmp_path / "out")
    assert "vocabularies" in error.what
    assert "400" in error.found


@pytest.mark.parametrize("size", [{"layers": 4}, {"hidden": 64}])
def test_a_delta_of_another_model_size_is_named_as_such(base, tmp_path, size):
    other = base_model(tmp_path / "other", **size)
    error = _refused(base, delta_for(other, tmp_path / "delta"), tmp_path / "out")
    assert "another size" in error.what
    assert "3 layers of width 32" in error.expected
    assert "7B" in error.next_step


def test_exchanged_sides_are_named_as_such(base, delta, tmp_path):
    error = _refused(delta, base, tmp_path / "out")
    assert "swapped" in error.what


def test_a_delta_that_is_merged_already_is_named_as_such(base, delta, tmp_path):
    merge_delta(base, delta, tmp_path / "merged")
    error = _refused(base, tmp_path / "merged", tmp_path / "out")
    assert "already a complete model" in error.what


def test_the_base_given_twice_is_refused(base, tmp_path):
    assert "already a complete model" in _refused(base, base, tmp_path / "out").what


def test_a_delta_from_an_unrelated_initialization_is_accepted(base, tmp_path):
    """Toy pairs, as tests and demos make them: the delta is as large as the weights."""
    changes = {name: t * 30 for name, t in state_dict_of(delta_for(base, tmp_path / "d")).items()}
    plan = plan_merge(base, save(tmp_path / "d", changes))
    assert plan.layout.parameters == sum(t.numel() for t in changes.values())


def test_whether_a_head_is_the_tied_embedding_is_not_guessed_before_its_values_are_there(
    base, delta
):
    for model in (base, delta):
        _configure(model, tie_word_embeddings=True)
    with pytest.raises(ValuesNeeded, match=r"lm_head\.weight, model\.embed_tokens\.weight"):
        plan_merge(base, delta, values="to come")


@pytest.mark.parametrize("side", ["base", "delta"])
def test_a_tensor_that_one_side_lacks_is_named(base, delta, tmp_path, side):
    directory = {"base": base, "delta": delta}[side]
    state_dict = state_dict_of(directory)
    del state_dict["model.layers.1.mlp.up_proj.weight"]
    save(directory, state_dict)
    error = _refused(base, delta, tmp_path / "out")
    assert "model.layers.1.mlp.up_proj.weight" in error.found


def test_a_shape_that_would_broadcast_is_refused(base, delta, tmp_path):
    state_dict = state_dict_of(delta)
    state_dict["model.layers.0.input_layernorm.weight"] = torch.ones(1).half()
    save(delta, state_dict)
    error = _refused(base, delta, tmp_path / "out")
    assert "model.layers.0.input_layernorm.weight" in error.where


def test_integer_weights_are_refused(base, delta, tmp_path):
    state_dict = state_dict_of(delta)
    state_dict["lm_head.weight"] = state_dict["lm_head.weight"].to(torch.int8)
    save(delta, state_dict)
    assert "I8" in _refused(base, delta, tmp_path / "out").found


def test_another_kind_of_model_is_refused(base, delta, tmp_path):
    _configure(delta, model_type="mistral")
    assert "different kinds" in _refused(base, delta, tmp_path / "out").what


def test_a_quantized_model_is_refused(base, delta, tmp_path):
    _configure(base, quantization_config={"quant_method": "gptq"})
    with pytest.raises(NotAModel, match="quantized"):
        merge_delta(base, delta, tmp_path / "out")


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_config_that_cannot_be_read_is_refused(base, delta, tmp_path, content):
    (delta / "config.json").unlink()
    if content is not None:
        (delta / "config.json").write_text(content)
    with pytest.raises(NotAModel, match=r"config\.json"):
        merge_delta(base, delta, tmp_path / "out")


def test_a_delta_without_a_tokenizer_is_refused(base, delta, tmp_path):
    for name in ("tokenizer.json", "tokenizer.model"):
        (delta / name).unlink()
    with pytest.raises(NotAModel, match="no tokenizer"):
        merge_delta(base, delta, tmp_path / "out")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 40000.0])
def test_nan_and_infinity_in_the_sum_stop_it_with_the_name(base, delta, tmp_path, value):
    name = "model.layers.2.mlp.down_proj.weight"
    for directory in (base, delta):  # 40000 + 40000 overflows float16
        state_dict = state_dict_of(directory)
        state_dict[name][7, 5] = value
        save(directory, state_dict)
    with pytest.raises(CorruptWeights) as caught:
        merge_delta(base, delta, tmp_path / "out", threads=3)
    assert caught.value.where == name
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_file_that_shrinks_while_it_is_read_stops_the_merge(base, delta, tmp_path):
    def cut(done: int, total: int) -> None:
        with (delta / "model.safetensors").open("r+b") as file:
            file.truncate(5000)

    with pytest.raises(CorruptWeights, match="shorter"):
        merge_delta(base, delta, tmp_path / "out", threads=1, on_progress=cut)


def _tied(model: Path, *, copy_of_head: bool) -> None:
    state_dict = state_dict_of(model)
    head = state_dict["model.embed_tokens.weight"].clone()
    others = {name: t for name, t in state_dict.items() if name != "lm_head.weight"}
    save(model, others | ({"lm_head.weight": head} if copy_of_head else {}))
    _configure(model, tie_word_embeddings=True)


@pytest.mark.parametrize("base_copy", [False, True])
@pytest.mark.parametrize("delta_copy", [False, True])
def test_tied_embeddings_are_added_once_with_or_without_a_stored_copy(
    base, delta, tmp_path, base_copy, delta_copy
):
    _tied(base, copy_of_head=base_copy)
    _tied(delta, copy_of_head=delta_copy)
    merge_delta(base, delta, tmp_path / "out")
    changes = state_dict_of(delta)
    expected = {n: t + changes[n] for n, t in state_dict_of(base).items() if n != "lm_head.weight"}
    assert same_bits(state_dict_of(tmp_path / "out"), expected)


def test_a_class_that_ties_by_default_needs_no_head_in_the_delta(base, delta, tmp_path):
    _tied(base, copy_of_head=True)
    _tied(delta, copy_of_head=False)
    for side in (base, delta):
        _configure(side, model_type="gemma", num_hidden_layers=3)
        path = side / "config.json"
        document = json.loads(path.read_text())
        del document["tie_word_embeddings"]
        path.write_text(json.dumps(document))
    merge_delta(base, delta, tmp_path / "out")
    assert "lm_head.weight" not in state_dict_of(tmp_path / "out")


def test_a_base_whose_configuration_is_of_fewer_layers_is_refused(base, delta, tmp_path):
    _configure(base, num_hidden_layers=2)
    with pytest.raises(NotAModel, match=r"layers\.2"):
        merge_delta(base, delta, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors", "config.json"])
def test_a_pointer_in_the_place_of_a_file_is_named(base, delta, tmp_path, name):
    (delta / name).write_bytes(POINTER)
    with pytest.raises((NotAModel, CorruptWeights), match="Git LFS pointer"):
        merge_delta(base, delta, tmp_path / "out")


def test_packed_integers_without_a_word_in_the_configuration_are_refused(base, delta, tmp_path):
    packed = {"model.layers.0.mlp.up_proj.qweight": torch.ones(2, 2, dtype=torch.int32)}
    save(base, {**state_dict_of(base), **packed})
    with pytest.raises(NotAModel, match="quantized"):
        merge_delta(base, delta, tmp_path / "out")


def test_a_head_that_differs_from_the_embedding_it_is_tied_to_must_be_on_both_sides(
    base, delta, tmp_path
):
    _configure(base, tie_word_embeddings=True)
    _tied(delta, copy_of_head=True)
    assert "lm_head.weight" in _refused(base, delta, tmp_path / "out").found
