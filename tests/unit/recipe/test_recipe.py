import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from tasks.core.recipe import KAWAN_USAHA, ActivationEdit, Base, Deploy, Edit, Finetune, Recipe
from tasks.core.recipe.data import DataSource, short_names


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"bas": {}}, "bas"),
        ({"base": {"repo": "a/b", "directory": "/m"}}, "either repo or directory"),
        ({"base": {"repo": None}}, "either repo or directory"),
        ({"base": {"repo": "https://hub/a/b"}}, "not a repository name"),
        ({"delta": {"dtype": "float8"}}, "float16"),
        ({"edit": {"activations": []}}, "leave `edit` out"),
        ({"edit": {"activations": [{"layers": ["1-3"]}]}}, "slice"),
        ({"edit": {"activations": [{"layers": []}]}}, "at least one layer"),
        ({"deploy": {"gateway": {"host": "everywhere"}}}, "does not appear to be an IPv4"),
        ({"deploy": {"gateway": {"max_answer_tokens": 8}}}, "is above max_answer_tokens"),
        ({"publish": {}}, "repo"),
        ({"publish": {"repo": "a b"}}, "not a repository name"),
        ({"name": "Has Spaces"}, "pattern"),
        ({"finetune": {"token": "hf_x"}}, "token"),
    ],
)
def test_wrong_recipe_is_refused_with_the_reason(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Recipe.model_validate(wrong)


def test_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        KAWAN_USAHA.name = "other"  # type: ignore[misc]


def test_a_stage_that_is_left_out_is_not_run() -> None:
    recipe = Recipe.model_validate({"base": {"directory": "/m"}})
    assert (recipe.delta, recipe.edit, recipe.finetune, recipe.publish, recipe.deploy) == (
        None,
    ) * 5


def test_defaults_are_the_kawan_usaha_system() -> None:
    assert str(KAWAN_USAHA.base) == "huggyllama/llama-13b@main"
    assert str(KAWAN_USAHA.delta) == "lmsys/vicuna-13b-delta-v1.1@main"
    assert KAWAN_USAHA.edit == Edit(activations=(ActivationEdit(layers=(-1,), activation="gelu"),))
    assert KAWAN_USAHA.template == "vicuna_v1.1"
    deploy = KAWAN_USAHA.deploy
    assert deploy is not None
    assert (deploy.model_name, deploy.load_8bit, deploy.gpus) == ("Kawan-Usaha", True, 1)


def test_directory_takes_the_place_of_the_default_repository() -> None:
    assert Base(directory=Path("/m")).repo is None


@pytest.mark.parametrize("recipe", [KAWAN_USAHA, Recipe(base=Base(directory=Path("/m")))])
def test_recipe_survives_json(recipe: Recipe) -> None:
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def models_within(model: type[BaseModel]) -> set[type[BaseModel]]:
    found = {model}
    for field in model.model_fields.values():
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                found |= models_within(part)
    return found


def test_every_field_has_a_title_and_a_description_for_the_form() -> None:
    bare = [
        f"{model.__name__}.{name}"
        for model in models_within(Recipe)
        for name, field in model.model_fields.items()
        if not (field.title and field.description)
    ]
    assert Deploy in models_within(Recipe)
    assert bare == []


def numbers_within(model: type[BaseModel]) -> list[str]:
    return [
        name
        for name, field in model.model_fields.items()
        if float in (field.annotation, *getattr(field.annotation, "__args__", ()))
    ]


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, "inf", "nan"])
def test_no_number_of_a_recipe_may_be_infinite_or_nan(number: float | str) -> None:
    tried = 0
    for model in models_within(Recipe):
        for name in numbers_within(model):
            with pytest.raises(ValidationError, match=rf"{name}[\s\S]*(finite|valid number|than)"):
                model.model_validate({name: number})
            tried += 1
    assert tried > 10


def test_a_seed_that_no_generator_takes_is_refused() -> None:
    with pytest.raises(ValidationError, match="seed"):
        Finetune(seed=2**32)


@pytest.mark.parametrize("module", ["tasks.core.recipe", "tasks.core.keys", "tasks.core.planning"])
def test_help_and_form_stay_fast_without_torch(module: str) -> None:
    code = (
        f"import sys, {module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_fine_tune_by_sft_is_keyed_as_before_there_was_another_method() -> None:
    plain = Finetune(method="sft").model_dump(mode="json")
    assert not {"method", "beta"} & plain.keys()
    assert Finetune.model_validate(plain).method == "sft"


def test_what_dpo_has_stays_in_every_copy_of_a_recipe() -> None:
    asked = Recipe(finetune=Finetune(method="dpo", beta=0.3))
    assert Recipe.model_validate_json(asked.model_dump_json()) == asked
    lower = asked.model_copy(update={"name": "other"})
    assert lower.model_dump(exclude_unset=True)["finetune"] == {"method": "dpo", "beta": 0.3}


@pytest.mark.parametrize("fields", [{"beta": 0.3}, {"method": "dpo", "batching": "pack"}])
def test_a_method_is_refused_with_what_it_does_not_know(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="dpo"):
        Finetune.model_validate(fields)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ([], "name at least one source"),
        ([{}], "exactly one of file, directory, repo, collected; found none"),
        ([{"file": "a.json", "repo": "a/b"}], "found file and repo"),
        (["a.json", {"file": "a.json", "weight": 2}], "named twice: a.json; give it a weight"),
        (["a.json", "b/../a.json"], "named twice: a.json"),
        ({"file": "a.json", "name": "b.json"}, "no repo is given"),
        ({"file": "a.json", "revision": "v1"}, "`revision` belongs to a data set"),
        ({"repo": "a/b\n"}, "not a repository name"),
        ({"collected": "warung\n"}, "not the name of a deployment"),
        ({"repo": "a/b", "name": "b.parquet"}, "does not end with .json or .jsonl"),
        ({"repo": "a b"}, "not a repository name"),
        ({"collected": "../other"}, "not the name of a deployment"),
        ({"file": "a.json", "weight": 0}, "greater than 0"),
        ({"file": "a.json", "weight": float("inf")}, "finite number"),
        (
            {"file": "a.json", "format": "alpaca"},
            "'auto', 'fastchat', 'openai', 'sharegpt' or 'preferences'",
        ),
        ({"file": "a.json", "wieght": 2}, "Extra inputs"),
        (7, "valid tuple"),
    ],
)
def test_a_source_that_can_mean_nothing_is_refused(data: object, problem: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(problem)):
        Finetune(data=data)


def test_a_path_alone_is_a_file_and_one_source_a_list() -> None:
    one = (DataSource(file=Path("a.json")),)
    for said in ("a.json", Path("a.json"), ["a.json"], {"file": "a.json"}, [{"file": "a.json"}]):
        assert Finetune(data=said).data == one
    assert Finetune.model_validate_json(Finetune(data="a.json").model_dump_json()).data == one


def test_sources_are_called_by_what_they_are() -> None:
    several = Finetune(
        data=["data/a.json", {"repo": "a/b", "name": "c.json"}, {"collected": "toko"}]
    ).data
    assert [str(each) for each in several] == [
        "data/a.json",
        "a/b@main:c.json",
        "collected by toko",
    ]
    assert short_names(several) == "a.json and 2 more"
