"""`learn` on a real tiny model: what people corrected becomes likelier, or nothing is released."""

import json
import shutil
from pathlib import Path

import pytest
from prefect.client.schemas.objects import State

from flows.learn import learn
from flows.lifecycle import rebuild
from flows.rebuild.run_summary import RunSummary
from tasks.core.collected.storage.directory import COLLECTED
from tasks.core.errors import GateFailed
from tasks.core.evaluation.evaluate import read_evaluation
from tasks.core.learning.decisions import LearningDecisions
from tasks.core.learning.page_files import remove_stale_pages, report_page
from tasks.core.learning.released import released_recipe
from tasks.core.recipe import Base, Evaluate, Finetune, Publish, Recipe
from tasks.core.serving.state.directory import state_directory
from tasks.core.store import Store
from tasks.core.store.runs import RunRecords
from tests.collected import Kept
from tests.models import tiny_llama

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect", "preforked_children")]
NAME = "belajar"
UNREVIEWED = "rahasia yang tidak ditinjau"
GOODS = "kopi teh gula beras telur madu susu roti kue sabun lilin kain topi tas sepatu"


def conversation(number: int, question: str, answer: str) -> dict[str, object]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": str(number), "conversations": turns}


def recipe_in(root: Path) -> Recipe:
    return Recipe(
        name=NAME,
        base=Base(directory=root / "base"),
        finetune=Finetune.model_validate(
            {
                "data": root / "data.json",
                "device": "cpu",
                "precision": "float32",
                "zero_stage": 0,
                "micro_batch_size": 4,
                "gradient_accumulation_steps": 1,
                "max_steps": 12,
                "epochs": 1000,
                "warmup_ratio": 0.0,
                "learning_rate": 2e-2,
                "max_length_tokens": 256,
                "language": None,
                "lora": {"target_modules": "all-linear"},
            }
        ),
        evaluate=Evaluate(
            conversations=root / "held_out.json",
            prompts=root / "prompts.json",
            device="cpu",
            max_new_tokens=4,
        ),
        publish=Publish(target=str(root / "published"), license="apache-2.0"),
    )


def collect(home: Path) -> None:
    """Answers with corrections, most of them reviewed; one that nobody has looked at."""
    kept = Kept(state_directory(home, NAME).root / COLLECTED)
    for number, good in enumerate(GOODS.split()):
        name = f"chatcmpl-{number}"
        kept.answer(name, f"Berapa modal jual {good}?", "Entahlah.", rated="down")
        kept.review(name, "accept", f"Modal jual {good} bisa dari KUR di bank terdekat.")
    kept.answer("chatcmpl-unreviewed", "Apa itu NIB?", UNREVIEWED, rated="up")


@pytest.fixture(scope="module")
def world(prefect: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which a model is released, serves (as far as this test cares) and has collected."""
    root = tmp_path_factory.mktemp("learn")
    records = [conversation(n, f"Halo nomor {n}?", f"Nomor {n} di warung.") for n in range(8)]
    (root / "data.json").write_text(json.dumps(records))
    (root / "held_out.json").write_text(json.dumps([conversation(9, "Halo?", "Halo juga.")]))
    (root / "prompts.json").write_text(json.dumps([{"id": "p", "prompt": "Apa itu NIB?"}]))
    tiny_llama(root / "base", seed=1, dtype="float32", layers=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAWAN_USAHA_HOME", str(root / "home"))
        rebuild(recipe_in(root))
    collect(root / "home")
    return root


@pytest.fixture(scope="module")
def refused(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State[object]]:
    """A copy of that home in which the learned model was refused: it had to be far better."""
    home = Path(shutil.copytree(world / "home", tmp_path_factory.mktemp("refused") / "home"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAWAN_USAHA_HOME", str(home))
        return home, learn(NAME, min_new=5, max_ratio=1e-9, return_state=True)


def test_a_model_that_is_not_better_enough_is_explained_and_not_released(
    world: Path, refused: tuple[Path, State[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, state = refused
    with pytest.raises(GateFailed, match="above the limit 1e-09"):
        state.result()
    monkeypatch.setenv("KAWAN_USAHA_HOME", str(home))
    page = report_page(home, NAME).read_text()
    assert "Not released" in page
    assert "15 reviewed answers, 15 of them new" in page
    assert "<td>modal</td>" in page
    assert "Berapa modal jual" in page
    released = RunRecords(world / "home").releases(NAME)
    assert RunRecords(home).releases(NAME) == released
    (decision,) = LearningDecisions(home, NAME).all()
    assert decision.ending == "refused"
    assert len(decision.answers) == 15


def test_the_same_reviewed_set_is_not_learned_twice(
    refused: tuple[Path, State[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, _ = refused
    monkeypatch.setenv("KAWAN_USAHA_HOME", str(home))
    before = {artifact.key for artifact in Store(home).artifacts()}
    state = learn(NAME, min_new=1, return_state=True)
    assert state.name == "Skipped"
    assert "learned on" in str(state.message)
    assert "refused" in str(state.message)
    assert {artifact.key for artifact in Store(home).artifacts()} == before


def test_a_run_that_was_killed_before_its_decision_goes_on_and_what_is_better_is_released(
    refused: tuple[Path, State[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path(shutil.copytree(refused[0], tmp_path / "home"))
    shutil.rmtree(home / "learned")  # as after a kill: all is built, and nothing decided
    monkeypatch.setenv("KAWAN_USAHA_HOME", str(home))
    before = RunRecords(home).releases(NAME)
    report = learn(NAME, min_new=5, return_state=True).result()
    assert isinstance(report, RunSummary)
    assert [s.stage for s in report.stages if not s.cached] == ["publish"]
    assert RunRecords(home).releases(NAME)[1:] == before
    assert "Why it is released" in report_page(home, NAME).read_text()
    (decision,) = LearningDecisions(home, NAME).all()
    assert decision.ending == "released"
    assert learn(NAME, min_new=1, return_state=True).name == "Skipped"
    data = released_recipe(RunRecords(home), NAME).finetune
    assert data is not None
    assert [source.collected for source in data.data] == [None, NAME]


def test_corrected_answers_are_likelier_and_what_nobody_reviewed_is_nowhere(
    refused: tuple[Path, State[object]],
) -> None:
    home, _ = refused
    outcomes = [
        read_evaluation(artifact.path)
        for artifact in Store(home).artifacts()
        if artifact.key.stage == "evaluate"
    ]
    ratios = [
        after.perplexity_ratio_to(before)
        for outcome in outcomes
        if (before := outcome.of("release before"))
        and (after := outcome.of("fine-tuned"))
        and outcome.of("base") is None
    ]
    assert len(ratios) == 1
    assert ratios[0] < 0.97
    for path in (home / "store").rglob("*"):
        assert path.is_dir() or UNREVIEWED.encode() not in path.read_bytes()


def test_what_was_made_of_what_people_wrote_is_its_owners_alone_and_a_model_is_not(
    refused: tuple[Path, State[object]],
) -> None:
    home, _ = refused
    private = {a.path for a in Store(home).artifacts() if a.manifest.private}
    assert {"collected", "prepare", "evaluate"} <= {path.name.split("-")[0] for path in private}
    assert not any(path.stat().st_mode & 0o077 for path in private)
    assert not any(path.name.startswith(("finetune", "fuse")) for path in private)
    words = [
        path for path in (home / "store").rglob("*.json*") if b"Modal jual" in path.read_bytes()
    ]
    assert {path.relative_to(home / "store").parts[0] for path in words} <= {
        p.name for p in private
    }


def test_a_page_goes_with_the_reviewed_set_that_it_quotes(
    refused: tuple[Path, State[object]], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(refused[0] / "reports", home / "reports")
    (made,) = (a for a in Store(refused[0]).artifacts() if a.key.stage == "collected")
    shutil.copytree(made.path, home / "store" / made.path.name)
    assert remove_stale_pages(home) == ()
    shutil.rmtree(home / "store" / made.path.name)
    assert remove_stale_pages(home) == (report_page(home, NAME),)
    assert not report_page(home, NAME).exists()
    assert (home / "reports" / f"{NAME}.html").is_file()
