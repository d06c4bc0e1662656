"""The template that a model was trained with: it travels, and it is held against what is told."""

import json
import shutil
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks.core.architecture.edit import edit_model
from tasks.core.conversation.template.files import TEMPLATE_FILE, with_chat_template
from tasks.core.errors import NotAModel, TemplateMismatch
from tasks.core.evaluation.evaluate import evaluate_models, require_template
from tasks.core.evaluation.figures import subjects_of
from tasks.core.hub.download.model_files import choose_files
from tasks.core.hub.download.sources import Sources
from tasks.core.model.template_record import (
    DEFAULT_TEMPLATE,
    TEMPLATE_RECORD,
    record_template,
    recorded_template,
    template_for,
)
from tasks.core.preflight.checks import require_own_template
from tasks.core.recipe import ActivationEdit, Base, Delta, Deploy, Edit, Evaluate, Finetune, Recipe
from tasks.core.serving.launch.deployment import deploy
from tasks.core.serving.state.directory import state_directory
from tasks.core.weights.merge import merge_delta
from tests.command_line import Run
from tests.deployments import deployment, put_on_record
from tests.machines import AVX2
from tests.models import tiny_delta, tiny_llama
from tests.unit.files.test_foreign import POINTER

TRAINED, OTHER = "koala_v1", "vicuna_v1.1"
WAY_OUT = "fine-tune the model with it"


pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("base", "target"), start=1):
        tiny_llama(root / name, layers=1, seed=seed)
    tiny_delta(root / "base", root / "target", root / "delta")
    model = AutoModelForCausalLM.from_pretrained(root / "base")
    lora = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(model, lora).save_pretrained(root / "adapter")
    return root


@pytest.fixture
def models(made: Path, tmp_path: Path) -> Path:
    """Copies in which a test may record what it likes."""
    return shutil.copytree(made, tmp_path / "models")


@pytest.fixture
def trained(models: Path) -> Path:
    record_template(models / "base", TRAINED)
    return models / "base"


def deployed(model: Path, template: str, home: Path) -> None:
    """Put a deployment on record that nobody started."""
    state = state_directory(home, "kawan-usaha")
    put_on_record(state, deployment(state, model=model, template=template, expected_edit=None))


# --- the record itself -------------------------------------------------------------------------


def test_a_model_without_a_record_takes_what_is_told_or_the_default(tmp_path: Path) -> None:
    assert recorded_template(tmp_path) is None
    assert template_for(tmp_path, TRAINED) == TRAINED
    assert template_for(tmp_path, None) == DEFAULT_TEMPLATE == OTHER


def test_a_record_is_the_default_and_may_be_repeated(tmp_path: Path) -> None:
    record_template(tmp_path, TRAINED)
    assert template_for(tmp_path, None) == TRAINED
    assert template_for(tmp_path, TRAINED) == TRAINED


def test_a_mismatch_names_both_and_the_way_out(tmp_path: Path) -> None:
    record_template(tmp_path, TRAINED)
    with pytest.raises(TemplateMismatch) as told:
        template_for(tmp_path, OTHER)
    assert (told.value.expected, told.value.found) == (TRAINED, OTHER)
    assert WAY_OUT in str(told.value.next_step)
    assert TEMPLATE_RECORD in str(told.value.next_step)
    assert told.value.exit_code == 2


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '"koala_v1"', *(f'{{"conversation_template": {v}}}' for v in ('""', 3))],
)
def test_a_record_that_holds_none_is_told_and_not_passed_over(tmp_path: Path, content: str) -> None:
    (tmp_path / TEMPLATE_RECORD).write_text(content)
    with pytest.raises(NotAModel, match=TEMPLATE_RECORD.replace(".", r"\.") + "|record"):
        template_for(tmp_path, OTHER)


def test_a_record_that_is_a_pointer_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / TEMPLATE_RECORD).write_bytes(POINTER)
    with pytest.raises(NotAModel, match="Git LFS pointer"):
        recorded_template(tmp_path)


# --- it travels --------------------------------------------------------------------------------


def test_the_chat_template_is_never_written_without_its_name(models: Path) -> None:
    written = with_chat_template(models / "base", OTHER)
    assert {TEMPLATE_RECORD, TEMPLATE_FILE} <= written.keys()
    assert recorded_template(models / "base") == OTHER


def test_a_template_without_translation_is_recorded_all_the_same(models: Path) -> None:
    assert with_chat_template(models / "base", "llama-2").keys() == {TEMPLATE_RECORD}
    assert recorded_template(models / "base") == "llama-2"


def test_what_a_model_was_trained_with_is_not_written_over(trained: Path) -> None:
    assert with_chat_template(trained, OTHER) == {}
    assert recorded_template(trained) == TRAINED
    assert not (trained / TEMPLATE_FILE).exists()


def test_it_goes_with_a_download(run: Run, trained: Path) -> None:
    assert run("download", trained, "out")[0] == 0
    assert recorded_template(Path("out")) == TRAINED
    names = ["config.json", "model.safetensors", TEMPLATE_RECORD]
    chosen = choose_files(names, where="hub", read_listing=lambda _: {})
    assert TEMPLATE_RECORD in chosen


def test_it_goes_with_an_edit(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "edited").mkdir()
    settings = Edit(activations=(ActivationEdit(layers=(-1,), activation="gelu"),))
    edit_model(trained, settings, tmp_path / "edited")
    assert recorded_template(tmp_path / "edited") == TRAINED


def test_it_goes_with_a_release(run: Run, trained: Path, tmp_path: Path) -> None:
    assert run("publish", trained, f"file://{tmp_path}/place")[0] == 0
    (published,) = (tmp_path / "place" / "builds").iterdir()
    assert recorded_template(published) == TRAINED
    assert "BEGINNING OF CONVERSATION" in (published / "README.md").read_text()


@pytest.mark.parametrize("in_delta", [TRAINED, None])
def test_a_merged_model_is_prompted_as_the_delta_says_not_as_its_base(
    models: Path, tmp_path: Path, in_delta: str | None
) -> None:
    record_template(models / "base", "alpaca")
    if in_delta is not None:
        record_template(models / "delta", in_delta)
    merge_delta(models / "base", models / "delta", tmp_path / "merged")
    assert recorded_template(tmp_path / "merged") == in_delta


@pytest.mark.parametrize("in_model", [None, OTHER, TRAINED])
@pytest.mark.parametrize("in_adapter", [None, TRAINED])
def test_a_fused_model_is_prompted_as_its_adapter_was_trained(
    run: Run, models: Path, in_model: str | None, in_adapter: str | None
) -> None:
    if in_model is not None:
        with_chat_template(models / "base", in_model)
    if in_adapter is not None:
        record_template(models / "adapter", in_adapter)
    code, out, _ = run("fuse", models / "base", models / "adapter", "out", "--json")
    assert code == 0
    expected = in_adapter or in_model
    assert recorded_template(Path("out")) == expected
    assert (TEMPLATE_RECORD in json.loads(out)["files"]) == (expected is not None)
    if expected is not None:
        text = AutoTokenizer.from_pretrained("out").apply_chat_template(
            [{"role": "user", "content": "Halo"}], tokenize=False
        )
        assert ("BEGINNING OF CONVERSATION" in str(text)) == (expected == TRAINED)


# --- it is held against what is told -----------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ("deploy", "{}", "--device", "cpu"),
        ("evaluate", "{}", "--device", "cpu"),
        ("publish", "{}", "file:///nowhere"),
    ],
    ids=lambda words: words[0],
)
def test_a_command_that_is_told_another_template_is_refused_before_it_begins(
    run: Run, trained: Path, home: Path, command: tuple[str, ...]
) -> None:
    code, out, err = run(*(word.format(trained) for word in command), "--template", OTHER)
    assert code == 2
    assert out == ""
    for word in (TRAINED, OTHER, WAY_OUT):
        assert word in err
    assert not (home / "serving").exists()
    assert not list(home.glob("logs/commands/evaluate-*"))


@pytest.mark.parametrize(
    ("place", "command"),
    [
        ("flows.actions.deploy.deploy", ("deploy", "{}", "--device", "cpu")),
        ("flows.actions.evaluate.evaluate_models", ("evaluate", "{}", "--device", "cpu")),
        (
            "flows.actions.finetune.train_down_the_ladder",
            ("finetune", "{}", "data.json", "out", "--device", "cpu"),
        ),
    ],
    ids=["deploy", "evaluate", "finetune"],
)
def test_a_command_that_is_told_none_takes_the_models_own(
    run: Run,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    place: str,
    command: tuple[str, ...],
) -> None:
    turns = [{"from": "human", "value": "Halo?"}, {"from": "gpt", "value": "Halo juga."}]
    Path("data.json").write_text(json.dumps([{"id": "a", "conversations": turns}]))
    monkeypatch.setattr("tasks.core.machine.hardware.measured_cpu_speed", lambda _: AVX2)

    def begins(*given: object, template: str = "", **_: object) -> None:
        template = template or getattr(given[0], "template", "")
        raise ValueError(f"begins with {template}")

    monkeypatch.setattr(place, begins)
    assert f"begins with {TRAINED}" in run(*(word.format(trained) for word in command))[2]
    (trained / TEMPLATE_RECORD).unlink()
    shutil.rmtree("out.partial", ignore_errors=True)
    assert f"begins with {DEFAULT_TEMPLATE}" in run(*(word.format(trained) for word in command))[2]


def test_a_record_is_shown_as_the_model_reads_it(run: Run, trained: Path) -> None:
    turns = [{"from": "human", "value": "Halo?"}, {"from": "gpt", "value": "Halo juga."}]
    Path("data.json").write_text(json.dumps([{"id": "a", "conversations": turns}]))
    asked = ("data", "show", "data.json", "--record", "1", "--tokenizer", trained)
    assert "BEGINNING OF CONVERSATION" in run(*asked)[1]
    assert "A chat between" in run(*asked, "--template", OTHER)[1]


def test_a_deployment_in_another_template_is_not_talked_with(
    run: Run, trained: Path, home: Path
) -> None:
    deployed(trained, OTHER, home)
    code, _, err = run("chat", "--once", "Halo?")
    assert code == 2
    assert "Deploy the model again" in err
    assert TRAINED in err


def test_a_deployment_whose_model_says_nothing_is_talked_with(
    run: Run, models: Path, home: Path
) -> None:
    deployed(models / "base", OTHER, home)
    code, _, err = run("chat", "--once", "Halo?")
    assert code == 1
    assert "cannot be reached" in err


def test_nothing_is_deployed_in_another_template(trained: Path, home: Path) -> None:
    with pytest.raises(TemplateMismatch):
        deploy(
            trained, Deploy(device="cpu"), name="demo", template=OTHER, home=home, build="a digest"
        )
    assert not (home / "serving").exists()


def test_only_the_model_that_is_judged_must_fit_the_template(trained: Path, models: Path) -> None:
    said: list[str] = []
    with pytest.raises(TemplateMismatch):
        require_template(
            subjects_of([("base", models / "target"), ("merged", trained)]),
            OTHER,
            said.append,
        )
    assert said == []
    require_template(
        subjects_of([("base", trained), ("merged", models / "target")]), OTHER, said.append
    )
    assert said == [f"base was trained with the template {TRAINED}, and is measured in {OTHER}"]


def test_nothing_is_measured_in_another_template(trained: Path, tmp_path: Path) -> None:
    subjects = subjects_of([("model", trained)])
    with pytest.raises(TemplateMismatch):
        evaluate_models(subjects, Evaluate(device="cpu"), template=OTHER, out=tmp_path)


@pytest.mark.parametrize("part", ["base", "delta"])
def test_a_recipe_with_another_template_than_its_model_is_refused(
    models: Path, part: str, tmp_path: Path
) -> None:
    record_template(models / part, TRAINED)
    delta = Delta(directory=models / "delta") if part == "delta" else None
    recipe = Recipe(base=Base(directory=models / "base"), delta=delta, template=OTHER)
    with pytest.raises(TemplateMismatch) as told:
        require_own_template(recipe, Sources.of(recipe, tmp_path))
    assert f"Set template: {TRAINED} in the recipe." in str(told.value.next_step)
    right = recipe.model_copy(update={"template": TRAINED})
    require_own_template(right, Sources.of(right, tmp_path))


def test_a_recipe_is_planned_where_the_hub_may_not_be_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    recipe = Recipe(name="a", base=Base(repo="huggyllama/llama-13b"))
    require_own_template(recipe, Sources.of(recipe, tmp_path))


def test_a_recipe_that_fine_tunes_may_take_another_template(trained: Path, tmp_path: Path) -> None:
    recipe = Recipe(base=Base(directory=trained), template=OTHER, finetune=Finetune())
    require_own_template(recipe, Sources.of(recipe, tmp_path))


def test_the_base_of_a_delta_decides_nothing(trained: Path, models: Path, tmp_path: Path) -> None:
    delta = Delta(directory=models / "delta")
    recipe = Recipe(base=Base(directory=trained), delta=delta, template=OTHER)
    sources = Sources.of(recipe, tmp_path)
    require_own_template(recipe, sources)
    assert sources.base.template() == TRAINED
