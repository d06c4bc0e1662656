"""The gate in the flow: what it refuses is neither published nor served, and stays for study."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from prefect.client.schemas.objects import State, TaskRun
from transformers import AutoTokenizer, LlamaForCausalLM

from flows.lifecycle import rebuild
from flows.rebuild.run_summary import RunSummary
from tasks.core.conversation.examples.labels import Encoder
from tasks.core.errors import GateFailed
from tasks.core.pruning import prune_store
from tasks.core.recipe import (
    ActivationEdit,
    Base,
    Deploy,
    Edit,
    Evaluate,
    Gate,
    Publish,
    Recipe,
)
from tasks.core.recipe.deploy import Gateway
from tasks.core.serving.state.directory import state_directory
from tasks.core.store import Artifact, Store
from tasks.core.store.runs import RunRecords
from tasks.stage_result import StageResult
from tests.conversations import load_conversations
from tests.machines import record_speed
from tests.models import tiny_llama
from tests.recorded import pages_of, task_runs_of

pytestmark = pytest.mark.usefixtures("prefect", "preforked_children")
TEMPLATE = "vicuna_v1.1"
REASON = "shown to the team as a bad example"


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that has learned the conversations that it is measured with, by heart."""
    root = tmp_path_factory.mktemp("learned")
    turns = [
        {"from": "human", "value": "Apa itu NIB?"},
        {"from": "gpt", "value": "NIB adalah nomor induk berusaha."},
    ]
    (root / "held_out.json").write_text(json.dumps([{"id": "a", "conversations": turns}]))
    (root / "prompts.json").write_text(json.dumps([{"id": "p", "prompt": "Apa itu NIB?"}]))
    path = tiny_llama(root / "base", dtype="float32", layers=2)
    model = LlamaForCausalLM.from_pretrained(path)
    encoder = Encoder(AutoTokenizer.from_pretrained(path), TEMPLATE, 2048)
    example = encoder.encode(load_conversations(root / "held_out.json")[0])
    ids, labels = torch.tensor([example.input_ids]), torch.tensor([example.labels])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model(ids, labels=labels).loss.backward()
        optimizer.step()
    model.save_pretrained(path)
    return root


@pytest.fixture
def destructive(learned: Path, tmp_path: Path) -> Recipe:
    return destructive_recipe(learned, tmp_path / "published")


@pytest.fixture(scope="module")
def measured(prefect: None, learned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the destroyed model is measured already: made once, to be copied."""
    root = tmp_path_factory.mktemp("measured")
    record_speed(root / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAWAN_USAHA_HOME", str(root / "home"))
        rebuild(
            destructive_recipe(learned, root / "published"), until="evaluate", return_state=True
        )
    shutil.rmtree(root / "home" / "runs", ignore_errors=True)
    for ruled in (root / "home" / "store").glob("gate-*"):
        shutil.rmtree(ruled)
    return root / "home"


@pytest.fixture
def home(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KAWAN_USAHA_HOME", str(tmp_path / "home"))
    return Path(shutil.copytree(measured, tmp_path / "home"))


def destructive_recipe(learned: Path, published: Path) -> Recipe:
    """Another activation in every layer of a model that has learned with its own one."""
    return Recipe(
        name="destroyed",
        base=Base(directory=learned / "base"),
        edit=Edit(activations=(ActivationEdit(layers=("all",), activation="sigmoid"),)),
        evaluate=Evaluate(
            conversations=learned / "held_out.json",
            prompts=learned / "prompts.json",
            max_new_tokens=4,
            device="cpu",
        ),
        publish=Publish(target=str(published), license="apache-2.0"),
    )


def run(recipe: Recipe, **options: object) -> State[object]:
    return rebuild(recipe, return_state=True, **options)  # type: ignore[call-overload,no-any-return]


def succeeded(recipe: Recipe, **options: object) -> RunSummary:
    report = run(recipe, **options).result()
    assert isinstance(report, RunSummary)
    return report


def task_runs(state: State[object]) -> dict[str, TaskRun]:
    """Prefect's own record of the tasks of a flow run, by the name of the stage."""
    return {name.split()[0]: each for name, each in task_runs_of(state, "gate").items()}


def ruling(home: Path) -> Artifact:
    (found,) = [a for a in Store(home).artifacts() if a.key.stage == "gate"]
    return found


@dataclass(frozen=True)
class Refused:
    """A run whose model was to be published and served, and was refused."""

    state: State[object]
    home: Path
    published: Path


@pytest.fixture(scope="module")
def refused(measured: Path, learned: Path, tmp_path_factory: pytest.TempPathFactory) -> Refused:
    root = tmp_path_factory.mktemp("refused")
    home = Path(shutil.copytree(measured, root / "home"))
    served = destructive_recipe(learned, root / "published").model_copy(
        update={"deploy": Deploy(device="cpu", gateway=Gateway(port=18999))}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAWAN_USAHA_HOME", str(home))
        return Refused(run(served), home, root / "published")


def test_destructive_edit_is_stopped_and_neither_published_nor_served(refused: Refused) -> None:
    error = refused.state.result(raise_on_failure=False)
    assert isinstance(error, GateFailed)
    assert "perplexity ratio of edited to base" in (error.found or "")
    assert "above the limit 1.25" in (error.found or "")
    assert "--override-gate" in (error.next_step or "")
    assert {"publish", "deploy"}.isdisjoint(task_runs(refused.state))
    assert not refused.published.exists()
    assert not state_directory(refused.home, "destroyed").root.exists()
    assert RunRecords(refused.home).last(1) == []


def test_refusal_is_a_state_of_its_own_that_is_not_tried_again(refused: Refused) -> None:
    gate = task_runs(refused.state)["gate"]
    assert gate.state is not None
    assert (gate.state.name, gate.run_count) == ("Refused", 1)
    assert "above the limit" in (gate.state.message or "")
    shown = pages_of(refused.state, "evaluation", "rebuild")
    assert "Gate failed" in shown["evaluation"]
    assert "above the limit" in shown["rebuild"]


def test_refused_model_and_its_figures_stay_for_study(refused: Refused) -> None:
    stages = {artifact.key.stage for artifact in Store(refused.home).artifacts()}
    assert {"edit", "evaluate", "gate"} <= stages
    verdict = json.loads((ruling(refused.home).path / "verdict.json").read_text())
    assert verdict["passed"] is False
    assert "Gate failed" in (refused.home / "reports" / "destroyed.html").read_text()


def test_force_releases_and_its_reason_stays_in_manifest_record_card_and_page(
    destructive: Recipe, home: Path, tmp_path: Path
) -> None:
    state = run(destructive, override_gate=REASON)
    assert state.is_completed()
    gate_state = task_runs(state)["gate"].state
    assert gate_state is not None
    assert gate_state.name == "Forced"
    params = ruling(home).manifest.params
    assert isinstance(params, dict)
    assert params["forced"] == REASON
    assert RunRecords(home).last(1)[0].forced == REASON
    (card,) = (tmp_path / "published").rglob("README.md")
    assert REASON in card.read_text()
    assert REASON in (home / "reports" / "destroyed.html").read_text()


def test_force_without_a_reason_forces_nothing(destructive: Recipe, home: Path) -> None:
    assert run(destructive, override_gate=" ").is_failed()


@pytest.mark.slow
def test_release_is_held_against_the_one_before_it(destructive: Recipe, home: Path) -> None:
    """First the untouched model, then the destroyed one, held only against the first."""
    limits = Gate(max_perplexity_ratio=None, max_ratio_to_release=1.05)
    evaluate = destructive.evaluate.model_copy(update={"gate": limits})
    worse = destructive.model_copy(update={"evaluate": evaluate})
    good = worse.model_copy(update={"edit": None})

    first = succeeded(good)
    assert first.verdict is not None
    assert "there is no earlier release" in first.verdict.reasons[0]
    state = run(worse)
    assert state.is_failed()
    assert "to the release before" in (state.message or "")


def recipe_and_its_release_before(destructive: Recipe) -> tuple[Recipe, StageResult]:
    """A recipe that allows any rise, and its last release, which has another edit."""
    limits = Gate(max_perplexity_ratio=None, max_ratio_to_release=1e9)
    evaluate = destructive.evaluate.model_copy(update={"gate": limits})
    later = destructive.model_copy(update={"evaluate": evaluate})
    relu = Edit(activations=(ActivationEdit(layers=(0,), activation="relu"),))
    return later, succeeded(later.model_copy(update={"edit": relu})).stages[1]


@pytest.mark.slow
def test_damaged_release_before_is_set_aside_and_stops_no_rebuild(
    destructive: Recipe, home: Path
) -> None:
    later, earlier = recipe_and_its_release_before(destructive)
    (earlier.path / "config.json").unlink()
    report = succeeded(later)
    assert report.verdict is not None
    assert any("no earlier release" in reason for reason in report.verdict.reasons)
    assert not earlier.path.exists()
    aside = [path.name for path in (home / "store" / ".corrupt").iterdir()]
    assert [name.startswith(earlier.artifact) for name in aside] == [True]


@pytest.mark.slow
def test_repeated_run_finds_the_same_release_before_it_also_after_a_prune(
    destructive: Recipe, home: Path
) -> None:
    later, earlier = recipe_and_its_release_before(destructive)
    first, second = succeeded(later), succeeded(later)
    assert first.outcome is not None
    assert first.outcome.between("release before", "edited") is not None
    assert {stage.cached for stage in second.stages} == {True}
    gone = {item.path.name for item in prune_store(home, keep_runs=1).items}
    assert gone
    assert earlier.artifact not in gone
    assert {stage.cached for stage in succeeded(later).stages} == {True}
