import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.commands.finetune import LORA, finetune_settings
from tasks.core.errors import DataError, RecipeError, UsageError
from tasks.core.machine import hardware
from tasks.core.recipe import Finetune, Lora
from tests.machines import AVX2
from tests.models import tiny_llama


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("model"), layers=1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    turns = [{"from": "human", "value": "Halo?"}, {"from": "gpt", "value": "Halo juga."}]
    path = tmp_path / "data.json"
    path.write_text(json.dumps([{"id": "a", "conversations": turns}]))
    return path


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAWAN_USAHA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(hardware, "measured_cpu_speed", lambda _: AVX2)


def finetune(*words: object) -> object:
    ran = CliRunner().invoke(app, ["finetune", *map(str, words)], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


def test_every_field_of_the_recipe_is_an_option_and_no_other_is() -> None:
    ran = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["finetune", "--help"])
    fields = [name for name in Finetune.model_fields if name not in ("data", "lora")]
    fields += [LORA + name for name in Lora.model_fields]
    for field in fields:
        assert f"--{field.replace('_', '-')} " in ran.stdout


def test_without_options_the_settings_are_the_recipes_own() -> None:
    nothing = {name: None for name in Finetune.model_fields if name not in ("data", "lora")}
    assert finetune_settings(Path("a.json"), nothing) == Finetune(data=Path("a.json"))


def test_a_value_that_a_field_cannot_take_is_refused_by_its_option() -> None:
    with pytest.raises(UsageError, match="--micro-batch-size"):
        finetune_settings(Path(), {"micro_batch_size": 0})
    with pytest.raises(UsageError, match="--lora-r"):
        finetune_settings(Path(), {"lora_r": 0})


def test_a_gpu_that_is_not_there_is_named_before_anything_is_started(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(RecipeError, match=r"finetune\.device"):
        finetune(model, data, tmp_path / "out")


def test_a_dry_run_shows_command_configuration_and_plan_and_writes_nothing(
    model: Path, data: Path, tmp_path: Path
) -> None:
    shown = finetune(
        *(model, data, tmp_path / "out", "--dry-run", "--json"),
        *("--device", "cpu", "--processes", "2", "--zero-stage", "2", "--micro-batch-size", "4"),
        *("--lora-target-modules", "all-linear", "--lora-r", "4", "--no-gradient-checkpointing"),
    )
    assert isinstance(shown, dict)
    command = shown["command"]
    assert command[1:3] == ["-m", "deepspeed.launcher.launch"]
    assert shown["deepspeed"]["train_micro_batch_size_per_gpu"] == 4
    assert shown["deepspeed"]["zero_optimization"]["stage"] == 2
    rungs = shown["plan"]["rungs"]
    assert [each["rung"]["settings"]["micro_batch_size"] for each in rungs[:3]] == [4, 2, 1]
    assert rungs[0]["rung"]["settings"]["lora"]["target_modules"] == "all-linear"
    assert {path.name for path in tmp_path.iterdir()} <= {"home", data.name}


@pytest.mark.parametrize("dry", [("--dry-run",), ()])
@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--template", "vicuna_v1.2"), RecipeError),
        (("--max-length-tokens", "4096"), RecipeError),
        (("--lora-target-modules", "c_attn"), RecipeError),
        (("--zero-stage", "0", "--offload", "all"), RecipeError),
    ],
)
def test_a_dry_run_refuses_what_the_training_refuses_and_nothing_is_left(
    *, model: Path, data: Path, tmp_path: Path, words: tuple[str, ...], error: type, dry: tuple[str]
) -> None:
    with pytest.raises(error):
        finetune(model, data, tmp_path / "out", "--device", "cpu", *words, *dry)
    assert {path.name for path in tmp_path.iterdir()} <= {"home", data.name}


@pytest.mark.parametrize("dry", [("--dry-run",), ()])
def test_missing_data_is_refused_by_dry_run_and_training(
    model: Path, tmp_path: Path, dry: tuple[str]
) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json"):
        finetune(model, tmp_path / "nowhere.json", tmp_path / "out", "--device", "cpu", *dry)
    assert {path.name for path in tmp_path.iterdir()} <= {"home"}


def test_a_pipe_is_read_to_its_end_and_an_error_speaks_of_the_pipe(
    model: Path, tmp_path: Path
) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b'[{"id": "a"}, {"id": "b"}]')
    os.close(write_end)
    pipe = f"/dev/fd/{read_end}"
    cpu = ("--device", "cpu", "--zero-stage", "0")
    with pytest.raises(DataError, match="no conversation in the training data") as caught:
        finetune(model, pipe, tmp_path / "out", *cpu)
    assert caught.value.where == pipe
    assert f"data check {pipe}" in str(caught.value.next_step)
    os.close(read_end)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "dpo", "batching": "pack"}, "for dpo, take group"),
        ({"beta": 0.5}, "name method: dpo"),
    ],
)
def test_options_that_do_not_go_together_are_refused_in_words(
    given: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        finetune_settings(Path("a.json"), given)
    assert not str(caught.value.found).startswith("--")


def test_a_dry_run_by_preference_asks_for_pairs_and_plans_two_sides(
    model: Path, data: Path, tmp_path: Path
) -> None:
    words = ("--dry-run", "--json", "--device", "cpu", "--precision", "float32")
    with pytest.raises(DataError, match="method: sft"):
        finetune(model, data, tmp_path / "out", *words, "--method", "dpo")
    pairs = tmp_path / "pairs.jsonl"
    question = [{"from": "human", "value": "Halo?"}]
    pair = {"id": "a", "conversations": question, "chosen": "Halo juga.", "rejected": "Ya."}
    pairs.write_text(json.dumps(pair))
    told = [finetune(model, data, tmp_path / "out", *words)]
    told += [finetune(model, pairs, tmp_path / "out", *words, "--method", "dpo")]
    needs = [
        {term["name"]: term["bytes"] for term in each["plan"]["rungs"][0]["memory"]["host"]}  # type: ignore[index]
        for each in told
    ]
    assert needs[1]["activations"] == 2 * needs[0]["activations"]
