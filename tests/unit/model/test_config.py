"""What a configuration does not say is what the model's class takes."""

import json

import pytest
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tasks.core.model.config import TIED_BY_DEFAULT, read_config, ties_embeddings
from tasks.core.planning.shape import dtype_from_config, shape_from_config
from tests.models import tiny_llama

NEEDS_ARGUMENTS = {"gemma4_assistant"}  # its class has no default that passes its own validation


def test_the_list_of_classes_that_tie_is_that_of_the_installed_transformers():
    kinds = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - NEEDS_ARGUMENTS
    tied = {kind for kind in kinds if getattr(CONFIG_MAPPING[kind](), "tie_word_embeddings", None)}
    assert tied == TIED_BY_DEFAULT


@pytest.mark.parametrize(
    ("config", "tied"),
    [
        ({"model_type": "llama"}, False),
        ({"model_type": "gpt2"}, True),
        ({"model_type": "gemma"}, True),
        ({"model_type": "gpt2", "tie_word_embeddings": False}, False),
        ({"model_type": "llama", "tie_word_embeddings": True}, True),
        ({"model_type": "of somebody's own"}, False),
        ({}, False),
    ],
)
def test_the_configuration_decides_and_the_class_where_it_is_silent(config, tied):
    assert ties_embeddings(config) is tied


def test_the_plan_counts_no_head_for_a_class_that_ties_it(tmp_path):
    path = tiny_llama(tmp_path / "model") / "config.json"
    document = {**json.loads(path.read_text()), "model_type": "gemma"}
    del document["tie_word_embeddings"]
    path.write_text(json.dumps(document))
    assert shape_from_config(read_config(path.parent)).head_params == 0


@pytest.mark.parametrize("odd", [[], {}, ["llama"], None, 1])
def test_a_value_of_an_odd_type_is_no_traceback(odd):
    assert not ties_embeddings({"model_type": odd})
    assert dtype_from_config({"dtype": odd}) == "float32"
