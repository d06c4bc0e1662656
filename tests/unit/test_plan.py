"""The plan of a recipe on this machine: which CPU it speaks of, and that it never needs one."""

from pathlib import Path

import pytest

from tasks.core.machine.speed import CpuSpeed
from tasks.core.planning import hardware
from tasks.core.recipe import Base, Deploy, Evaluate, Finetune, Recipe
from tasks.plan import plan_of
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

    monkeypatch.setattr(hardware, "measured_speed", measure)
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
