"""Which files make up a model."""

from collections.abc import Callable, Sequence

import pytest

from tasks.core.errors import CorruptWeights, NotAModel
from tasks.core.files.foreign import JsonObject
from tasks.core.hub.download.model_files import choose_files
from tasks.core.weights.companion_kinds import companion_kind

COMMON = ["config.json", "tokenizer.json", "README.md"]


def listing(*shards: str) -> Callable[[str], JsonObject]:
    """Return a reader of an index file that names these shards."""
    return lambda _: {"weight_map": {f"tensor of {shard}": shard for shard in shards}}


def choose(*names: str, named: Sequence[str] = ()) -> set[str]:
    """Return what is chosen beside COMMON; the index names `named`, or all numbered shards."""
    numbered = [name for name in names if "-of-" in name and name.endswith("safetensors")]
    numbered = numbered or [name for name in names if "-of-" in name]
    read = listing(*(named or numbered))
    return set(choose_files([*COMMON, *names], where="test", read_listing=read)) - set(COMMON)


def shards(stem: str, suffix: str, total: int) -> list[str]:
    names = [f"{stem}-{number:05}-of-{total:05}.{suffix}" for number in range(1, total + 1)]
    return [*names, f"{stem}.{suffix}.index.json"]


def test_a_repository_without_configuration_is_no_model():
    with pytest.raises(NotAModel, match=r"no config\.json") as refused:
        choose_files(["model.safetensors"], where="owner/name", read_listing=listing())
    assert refused.value.found == "model.safetensors"


def test_other_formats_alone_are_no_model():
    with pytest.raises(NotAModel, match="no weights") as refused:
        choose("model.gguf", "onnx/model.onnx", "consolidated.00.pth")
    assert "model.gguf" in refused.value.found


def test_a_missing_shard_is_named():
    whole = shards("model", "safetensors", 3)
    names = [name for name in whole if name != "model-00002-of-00003.safetensors"]
    with pytest.raises(CorruptWeights, match="not there") as refused:
        choose(*names, named=whole[:-1])
    assert refused.value.found == "missing: model-00002-of-00003.safetensors"


def test_shards_without_their_index_are_no_model():
    with pytest.raises(NotAModel, match="no index file"):
        choose("model-00001-of-00001.safetensors")


def test_safetensors_are_preferred_and_never_taken_together_with_bin():
    both = shards("model", "safetensors", 2) + shards("pytorch_model", "bin", 3)
    assert choose(*both) == set(shards("model", "safetensors", 2))


def test_bin_is_taken_when_there_is_nothing_else():
    assert choose(*shards("pytorch_model", "bin", 2)) == set(shards("pytorch_model", "bin", 2))


def test_bin_is_taken_when_the_safetensors_are_not_complete():
    incomplete = ["model.safetensors.index.json", "model-00001-of-00002.safetensors"]
    named = shards("model", "safetensors", 2)[:-1]
    assert choose(*incomplete, "pytorch_model.bin", named=named) == {"pytorch_model.bin"}


def test_what_the_index_names_is_taken_whatever_it_is_called_and_a_stray_shard_is_not():
    named = ["model_a.safetensors", "model-00000-of-000002.safetensors"]
    listed = "model.safetensors.index.json"
    stray = "model-00001-of-00003.safetensors"
    assert choose(*named, listed, stray, named=named) == {*named, listed}


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
        "adapter_config.json",
        "adapter_model.safetensors",
        "trainer_state.json",
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
        "USE_POLICY.md",
    }
    assert choose("model.safetensors", *wanted) == {"model.safetensors", *wanted}


SENT = [
    *("config.json", "generation_config.json", "preprocessor_config.json"),
    *("processor_config.json", "tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt"),
    *("chat_template.jinja", "additional_chat_templates/tool_use.jinja", "qwen.tiktoken"),
    *("LICENSE", "licence.txt", "LICENSES.md", "COPYING", "COPYING.LESSER", "NOTICE"),
    *("USE_POLICY.md", "USAGE_POLICY", "NOTICES", "LICENSE AGREEMENT.pdf", "LICENSE (1)"),
]
KEPT = ["customers.json", "notes.txt", "other.spm", "train.py", "configs/model.py"]


@pytest.mark.parametrize("name", SENT)
def test_what_is_published_by_its_name_goes_wherever_the_model_goes(name):
    assert companion_kind(name).to_hub == "always"
    assert name in choose("model.safetensors", name) | set(COMMON)


@pytest.mark.parametrize("name", KEPT)
def test_what_may_hold_anything_goes_with_the_model_and_not_to_the_hub(name):
    assert companion_kind(name).to_hub != "always"
    assert companion_kind(name).why_not
    assert name in choose("model.safetensors", name)


@pytest.mark.parametrize(
    "name", ["adapter_config.json", "trainer_state.json", "manifest.json", "a/notes.txt", ".env"]
)
def test_what_is_of_no_kind_stays_behind(name):
    assert companion_kind(name) is None
    assert name not in choose("model.safetensors", name)
