"""The plan of a recipe on this machine: which CPU it speaks of, and that it never needs one."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flows.cli import app
from tasks.core.errors import (
    DataError,
    KawanUsahaError,
    NotAModel,
    RecipeError,
    SigningKeyUnusable,
)
from tasks.core.machine import hardware
from tasks.core.machine.hardware import Hardware
from tasks.core.machine.speed import CpuSpeed
from tasks.core.preflight.checks import check_inputs, check_recipe, require_devices
from tasks.core.preflight.plan import plan_of
from tasks.core.recipe import (
    ActivationEdit,
    Base,
    Deploy,
    Edit,
    Evaluate,
    Finetune,
    Publish,
    Recipe,
    RopeScalingEdit,
)
from tasks.core.recipe.deploy import Gateway
from tests.machines import AVX2
from tests.models import tiny_llama


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """A recipe for the CPU, with 16-bit training on the starter conversations."""
    return Recipe(
        base=Base(directory=tiny_llama(tmp_path / "base")),
        finetune=Finetune(device="cpu", zero_stage=0),
        evaluate=Evaluate(device="cpu"),
        deploy=Deploy(device="cpu"),
    )


def measured(monkeypatch: pytest.MonkeyPatch, speed: CpuSpeed | None) -> list[Path]:
    """Let the machine be measured as this speed; return the homes that it is asked with."""
    asked: list[Path] = []

    def measure(home: Path) -> CpuSpeed | None:
        asked.append(home)
        return speed

    monkeypatch.setattr(hardware, "measured_cpu_speed", measure)
    return asked


def test_a_recipe_for_the_cpu_gets_its_times_and_its_warnings(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = measured(monkeypatch, AVX2)
    made = plan_of(recipe, tmp_path)
    assert asked == [tmp_path]
    assert made.seconds is not None
    assert "finetune.precision: float32" in made.warnings[0]


def test_a_cpu_that_cannot_be_measured_does_not_fail_the_plan(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, None)
    assert plan_of(recipe, tmp_path).seconds is None


def test_this_cpu_is_not_measured_for_a_machine_that_is_named(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = measured(monkeypatch, AVX2)
    plan_of(recipe, tmp_path, gpus="1xL4")
    assert asked == []


def test_this_cpu_is_not_measured_for_a_recipe_that_computes_on_gpus(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = measured(monkeypatch, AVX2)
    on_gpus = {"finetune": Finetune(), "evaluate": Evaluate(), "deploy": Deploy()}
    plan_of(recipe.model_copy(update=on_gpus), tmp_path)
    assert asked == []


def test_conversations_that_are_not_here_leave_only_the_training_without_a_time(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, AVX2)
    elsewhere = Finetune(device="cpu", zero_stage=0, data=tmp_path / "none.json")
    made = plan_of(recipe.model_copy(update={"finetune": elsewhere}), tmp_path)
    unknown = [stage.need.name for stage in made.stages if stage.need.seconds is None]
    assert unknown == ["finetune"]


# --- what the plan refuses ---------------------------------------------------------------------


def with_positions(recipe: Recipe, tmp_path: Path, positions: int, *, factor: float = 0) -> Recipe:
    """Return the recipe with a base of so few positions, and an edit that lengthens them."""
    base = Base(directory=tiny_llama(tmp_path / "short", layers=1, max_positions=positions))
    scaling = RopeScalingEdit(rope_type="linear", factor=factor) if factor else None
    edit = Edit(activations=(), rope_scaling=scaling) if scaling else None
    return recipe.model_copy(update={"base": base, "edit": edit})


@pytest.mark.parametrize("positions", [256, 2047])
def test_a_length_beyond_the_positions_of_the_base_is_refused(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, positions: int
) -> None:
    measured(monkeypatch, AVX2)
    with pytest.raises(RecipeError, match=rf"max_length_tokens[\s\S]*at most {positions} tokens"):
        plan_of(with_positions(recipe, tmp_path, positions), tmp_path)


def test_a_published_base_is_held_to_its_positions_without_asking_the_hub(
    recipe: Recipe, tmp_path: Path
) -> None:
    known = recipe.model_copy(update={"base": Base(), "finetune": Finetune(max_length_tokens=4096)})
    with pytest.raises(RecipeError, match=r"finetune\.max_length_tokens[\s\S]*at most 2048"):
        plan_of(known, tmp_path, gpus="2xL4")


@pytest.mark.parametrize("layer", [9, -9, "1:9"])
def test_an_edit_of_a_layer_that_is_not_there_is_refused_before_any_download(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: int | str
) -> None:
    measured(monkeypatch, None)
    edit = Edit(activations=(ActivationEdit(layers=(layer,)),))
    with pytest.raises(RecipeError, match="layers that this model does not have"):
        plan_of(recipe.model_copy(update={"edit": edit}), tmp_path)


def test_a_scaling_edit_lengthens_the_context_and_the_base_is_only_warned_of(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, AVX2)
    made = plan_of(with_positions(recipe, tmp_path, 512, factor=4), tmp_path)
    assert "has 512 tokens" in made.warnings[0]
    assert made.serving is not None
    assert made.serving.context_tokens == 2048
    with pytest.raises(RecipeError, match="at most 1024 tokens"):
        plan_of(with_positions(recipe, tmp_path, 512, factor=2), tmp_path)


def test_a_published_base_whose_context_is_lengthened_is_only_warned_of(
    recipe: Recipe, tmp_path: Path
) -> None:
    longer = recipe.model_copy(
        update={
            "base": Base(),
            "edit": Edit(
                activations=(), rope_scaling=RopeScalingEdit(rope_type="linear", factor=2.0)
            ),
            "finetune": Finetune(max_length_tokens=4096),
            "evaluate": Evaluate(max_length_tokens=4096),
        }
    )
    warnings = plan_of(longer, tmp_path, gpus="2xL4").warnings
    assert "huggyllama/llama-13b@main has 2048 tokens" in warnings[0]


def test_a_padding_id_beyond_the_vocabulary_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    base = Path(str(recipe.base.directory))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "pad_token_id": 320}))
    with pytest.raises(NotAModel, match="pad_token_id = 320"):
        plan_of(recipe, tmp_path, gpus="1xL4")


WRONG = [
    ({"template": "vicuna_v1.2"}, RecipeError),
    ({"finetune": {"data": "nowhere.json"}}, DataError),
    ({"finetune": {"data": "."}}, DataError),
    ({"finetune": {"zero_stage": 0, "offload": "all"}}, RecipeError),
    ({"finetune": {"hostfile": "nowhere"}}, RecipeError),
    ({"evaluate": {"conversations": "nowhere.json"}}, DataError),
    ({"evaluate": {"conversations": "data/evaluation/prompts.json"}}, DataError),
]


@pytest.mark.parametrize(("wrong", "error"), WRONG)
def test_plan_and_rebuild_refuse_the_same_recipes(
    recipe: Recipe, tmp_path: Path, wrong: dict[str, object], error: type[KawanUsahaError]
) -> None:
    plain = recipe.model_dump(mode="json", exclude_none=True)
    for name, value in wrong.items():
        plain[name] = {**plain[name], **value} if isinstance(value, dict) else value
    for check in (check_inputs, lambda one: check_recipe(one, tmp_path)):
        with pytest.raises(error):
            check(Recipe.model_validate(plain))
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump(plain))
    ran = CliRunner().invoke(app, ["plan", str(file)])
    assert isinstance(ran.exception, error)
    assert "fits" not in ran.output


def with_hostfile(recipe: Recipe, port: int) -> Recipe:
    settings = Finetune(device="cpu", zero_stage=0, hostfile=Path("nowhere"))
    return recipe.model_copy(update={"finetune": settings})


def with_hub(recipe: Recipe, port: int) -> Recipe:
    return recipe.model_copy(update={"publish": Publish(repo="warung/model", license="mit")})


def with_taken_port(recipe: Recipe, port: int) -> Recipe:
    return recipe.model_copy(update={"deploy": Deploy(device="cpu", gateway=Gateway(port=port))})


NEEDS = {"finetune": with_hostfile, "publish": with_hub, "deploy": with_taken_port}


@pytest.mark.parametrize(("stage", "needing"), NEEDS.items())
def test_machine_is_asked_only_for_what_its_own_stages_need(
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    needing: Callable[[Recipe, int], Recipe],
) -> None:
    monkeypatch.setattr("tasks.core.preflight.checks.usable_token", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = needing(recipe.model_copy(update={"deploy": None}), taken.getsockname()[1])
        check_recipe(wanted, tmp_path, {"merge", *NEEDS} - {stage})
        with pytest.raises(KawanUsahaError):
            check_recipe(wanted, tmp_path, {stage})


def test_gpu_is_asked_for_only_where_a_stage_computes_on_one(recipe: Recipe) -> None:
    computing = recipe.model_copy(update={"evaluate": Evaluate(device="cuda")})
    machine = Hardware(1, 1, 1, 1, ())
    require_devices(computing, machine, {"merge", "gate"})
    with pytest.raises(RecipeError, match="evaluate"):
        require_devices(computing, machine, {"evaluate"})


@pytest.mark.parametrize("part", ["base", "publish", "deploy"])
def test_a_key_that_cannot_be_read_is_told_before_anything_is_started(
    recipe: Recipe, tmp_path: Path, part: str
) -> None:
    publish = Publish(target=str(tmp_path / "out"), license="apache-2.0")
    whole = recipe.model_copy(update={"publish": publish})
    unreadable = {"signed_by": tmp_path / "no-such.pem"}
    asked = whole.model_copy(update={part: getattr(whole, part).model_copy(update=unreadable)})
    with pytest.raises(SigningKeyUnusable, match=r"no-such\.pem"):
        check_recipe(asked, tmp_path)


def test_the_key_of_a_stage_that_is_not_run_is_not_asked_for(
    recipe: Recipe, tmp_path: Path
) -> None:
    publish = Publish(
        target=str(tmp_path / "out"), license="apache-2.0", signed_by=tmp_path / "no-such.pem"
    )
    check_recipe(
        recipe.model_copy(update={"publish": publish, "deploy": None}), tmp_path, ("merge",)
    )
