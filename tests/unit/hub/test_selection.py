"""Which files make up a model."""

import pytest

from tasks.core.errors import NotAModel
from tasks.core.hub.selection import choose_files

COMMON = ["config.json", "tokenizer.json", "README.md"]


def choose(*names: str) -> set[str]:
    return set(choose_files([*COMMON, *names], where="test")) - set(COMMON)


def shards(stem: str, suffix: str, total: int) -> list[str]:
    names = [f"{stem}-{number:05}-of-{total:05}.{suffix}" for number in range(1, total + 1)]
    return [*names, f"{stem}.{suffix}.index.json"]


def test_a_repository_without_configuration_is_no_model():
    with pytest.raises(NotAModel, match=r"no config\.json") as refused:
        choose_files(["model.safetensors"], where="owner/name")
    assert refused.value.found == "model.safetensors"


def test_other_formats_alone_are_no_model():
    with pytest.raises(NotAModel, match="no weights") as refused:
        choose("model.gguf", "onnx/model.onnx", "consolidated.00.pth")
    assert "model.gguf" in refused.value.found


def test_a_missing_shard_is_named():
    names = shards("model", "safetensors", 3)
    names.remove("model-00002-of-00003.safetensors")
    with pytest.raises(NotAModel, match="no weights") as refused:
        choose(*names)
    assert refused.value.found == "missing: model-00002-of-00003.safetensors"


def test_shards_without_their_index_are_no_model():
    with pytest.raises(NotAModel):
        choose("model-00001-of-00001.safetensors")


def test_safetensors_are_preferred_and_never_taken_together_with_bin():
    both = shards("model", "safetensors", 2) + shards("pytorch_model", "bin", 3)
    assert choose(*both) == set(shards("model", "safetensors", 2))


def test_bin_is_taken_when_there_is_nothing_else():
    assert choose(*shards("pytorch_model", "bin", 2)) == set(shards("pytorch_model", "bin", 2))


def test_bin_is_taken_when_the_safetensors_are_not_complete():
    incomplete = ["model.safetensors.index.json", "model-00001-of-00002.safetensors"]
    assert choose(*incomplete, "pytorch_model.bin") == {"pytorch_model.bin"}


def test_a_single_file_is_preferred_to_shards_as_transformers_does():
    assert choose("model.safetensors", *shards("model", "safetensors", 2)) == {"model.safetensors"}


def test_variants_duplicates_and_leftovers_of_training_stay_behind():
    assert choose(
        "model.safetensors",
        "model.fp16.safetensors",
        "pytorch_model.fp16.bin",
        "consolidated.safetensors",
        "optimizer.pt",
        "training_args.bin",
        "model.Q4_0.gguf",
        "tf_model.h5",
        "original/params.json",
        ".gitattributes",
    ) == {"model.safetensors"}


def test_tokenizer_code_templates_and_licence_belong_to_the_model():
    wanted = {
        "tokenizer.model",
        "special_tokens_map.json",
        "generation_config.json",
        "merges.txt",
        "modeling_kawan.py",
        "chat_template.jinja",
        "additional_chat_templates/tool_use.jinja",
        "LICENSE",
        "NOTICE.txt",
    }
    assert choose("model.safetensors", *wanted) == {"model.safetensors", *wanted}
