"""The model card: what it must say, and what it must not be published with."""

from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard

from tasks.core.errors import RecipeError
from tasks.core.hub.card.rules import LICENSES, require_valid_card
from tasks.core.hub.card.text import (
    CardFacts,
    CardFile,
    EditedPart,
    Figure,
    LineageStep,
    render_card,
)
from tasks.core.hub.publish.license import (
    ACCEPTANCE,
    LLAMA_1_TERMS,
    non_commercial_terms,
    require_acceptance,
)

FACTS = CardFacts(
    name="kawan-usaha-13b",
    build="fuse-0a1b2c",
    place="kawan/usaha-13b",
    summary="An assistant for small Indonesian businesses.",
    language="id",
    license="other",
    lineage=(
        LineageStep(
            "base",
            "huggyllama/llama-13b",
            "bf57045",
            repo="huggyllama/llama-13b",
            link="https://hub/huggyllama/llama-13b",
        ),
        LineageStep(
            "delta", "lmsys/vicuna-13b-delta-v1.1", "c0ffee1", repo="lmsys/vicuna-13b-delta-v1.1"
        ),
        LineageStep("edit", "GELU in the MLP of layer 39", "digest-of-the-edit"),
        LineageStep("fine-tune", "LoRA, fused into the weights", "digest-of-the-fuse"),
    ),
    template="vicuna_v1.1",
    prompt_example="USER: Apa itu NIB?\n```\nASSISTANT:",
    how_to_load="```python\nAutoModelForCausalLM.from_pretrained(...)\n```",
    how_to_rebuild="`kawan-usaha rebuild recipe.yaml`",
    recipe_yaml="name: kawan-usaha-13b\npublish: {repo: kawan/usaha-13b}\n",
    files=(CardFile("config.json", 612, "a" * 64), CardFile("model.safetensors", 9, "b" * 64)),
    edits=(EditedPart("layer 39, MLP activation", "silu", "gelu | exact"),),
    training=(("Conversations", "1200"),),
    figures=(
        Figure("perplexity", "Perplexity", 6.5, "held-out", "Held-out conversations", "d" * 64),
    ),
)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"language": "bahasa"}, "no ISO 639 code"),
        ({"license": "my-own", "lineage": ()}, "not in the Hub's list"),
        ({"license": "apache-2.0"}, "licence that the weights do not have"),
        ({"lineage": (LineageStep("base", "x", "y", repo="a/b/c"),)}, "base_model"),
        ({"figures": (Figure("perplexity", "P", float("nan"), "d", "D"),)}, "no number"),
        ({"figures": (Figure("perplexity", "P", 2.0, "a b/c d", "D"),)}, "not a name of letters"),
        ({"tags": (" ",)}, "is not a word"),
        ({"language": ""}, "language is missing"),
    ],
)
def test_a_card_that_the_hub_would_refuse_is_refused_here(change, complaint):
    with pytest.raises(RecipeError, match=complaint):
        render_card(replace(FACTS, **change))


@pytest.mark.parametrize("text", ["# none\n", "---\n- a list\n---\n", "---\na: b: c\n---\n"])
def test_text_without_metadata_is_no_card(text):
    with pytest.raises(RecipeError, match="rejected the model card"):
        require_valid_card(text)


def test_the_card_reads_back_through_the_hubs_own_class():
    data = ModelCard(render_card(FACTS)).data
    assert (data.language, data.license, data.license_name) == (
        "id",
        "other",
        LLAMA_1_TERMS.license_name,
    )
    assert data.base_model == ["huggyllama/llama-13b", "lmsys/vicuna-13b-delta-v1.1"]
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-generation")
    [result] = data.eval_results
    assert (result.metric_type, result.metric_value) == ("perplexity", 6.5)
    assert result.dataset_revision == "d" * 64


def test_every_fact_stands_in_the_card():
    text = render_card(FACTS)
    for step in FACTS.lineage:
        assert step.name in text and step.identity in text
    for file in FACTS.files:
        assert f"| `{file.name}` | {file.size_bytes} | `{file.sha256}` |" in text
    assert "| layer 39, MLP activation | silu | gelu \\| exact |" in text
    assert "[huggyllama/llama-13b](https://hub/huggyllama/llama-13b)" in text
    for said in (FACTS.build, FACTS.place, FACTS.how_to_load, FACTS.how_to_rebuild, "vicuna_v1.1"):
        assert said in text


def test_a_prompt_with_a_fence_in_it_does_not_end_its_code_block():
    text = render_card(FACTS)
    assert "````text\n" + FACTS.prompt_example + "\n````" in text


def test_the_recipe_in_the_card_is_the_recipe():
    text = render_card(FACTS)
    block = text.split("## The recipe\n\n```yaml\n")[1].split("\n```")[0]
    assert yaml.safe_load(block) == yaml.safe_load(FACTS.recipe_yaml)


def test_equal_facts_give_equal_text():
    assert render_card(FACTS) == render_card(replace(FACTS))


def test_sections_without_facts_are_left_out():
    text = render_card(replace(FACTS, edits=(), training=(), figures=()))
    for heading in ("What was changed", "How it was trained", "What was measured"):
        assert heading not in text


def test_a_card_of_a_free_model_speaks_of_no_restriction():
    step = LineageStep("base", "HuggingFaceTB/SmolLM2-135M", "abc", repo="HuggingFaceTB/SmolLM2")
    text = render_card(replace(FACTS, license="apache-2.0", lineage=(step,)))
    assert "Non-commercial" not in text
    assert "license_name" not in text


@pytest.mark.parametrize(
    "name",
    [
        "huggyllama/llama-13b",
        "decapoda-research/llama-7b-hf",
        "lmsys/vicuna-13b-delta-v1.1",
        "lmsys/vicuna-33b-v1.3",
        "LLaMA-65B",
    ],
)
def test_llama_1_and_its_children_are_recognised(name):
    assert non_commercial_terms([name], ["other"]) is LLAMA_1_TERMS


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Llama-2-13b-hf",
        "lmsys/vicuna-13b-v1.5",
        "meta-llama/Meta-Llama-3-70B",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    ],
)
def test_other_models_are_not_taken_for_llama_1(name):
    assert non_commercial_terms([name], ["other"]) is None


def test_a_non_commercial_licence_is_recognised_by_its_identifier():
    assert non_commercial_terms(["some/model"], ["cc-by-nc-4.0"]) is not None
    assert {name for name in LICENSES if non_commercial_terms([], [name])} == {
        name for name in LICENSES if "-nc" in name or "noncommercial" in name
    }


def test_a_public_repository_of_such_weights_is_refused_without_the_sentence():
    with pytest.raises(RecipeError, match="make them public") as refusal:
        require_acceptance(LLAMA_1_TERMS, private=False, accepted="yes")
    assert ACCEPTANCE in str(refusal.value)


def test_the_sentence_or_a_private_repository_lifts_the_refusal():
    require_acceptance(LLAMA_1_TERMS, private=False, accepted=ACCEPTANCE.upper() + ".")
    require_acceptance(LLAMA_1_TERMS, private=True, accepted=None)
    require_acceptance(None, private=False, accepted=None)
