"""`learn` before any training: what it cannot learn from, and what is not worth one."""

from pathlib import Path

import pytest
import yaml
from prefect.client.schemas.objects import State

from flows.learn import learn, with_collected
from flows.learn_watch import learn_watch
from tasks.core.collected.storage.directory import COLLECTED
from tasks.core.errors import KawanUsahaError, RecipeError, UsageError
from tasks.core.learning.decisions import LearningDecisions
from tasks.core.learning.pending import pending_reviews
from tasks.core.learning.released import recorded_recipe
from tasks.core.recipe import Finetune, Recipe
from tasks.core.recipe.data import DataSource
from tasks.core.recipe.file import located
from tasks.core.serving.state.directory import state_directory
from tasks.core.store import Store
from tasks.core.store.runs import RunRecords
from tasks.notices import Notice
from tests.collected import Kept

pytestmark = pytest.mark.usefixtures("prefect")
NAME = "belajar"
RECIPE = Recipe(name=NAME, finetune=Finetune(device="cpu"))


@pytest.fixture
def answers(home: Path) -> Kept:
    """What a deployment has collected, of a recipe that was released."""
    release(home, RECIPE)
    return Kept(state_directory(home, NAME).root / COLLECTED)


def release(home: Path, recipe: Recipe) -> None:
    run = RunRecords(home).start(recipe.name)
    run.release("fuse-0123456789abcdef0123", recipe=recorded_recipe(located(recipe)))
    run.finish()


def accept(answers: Kept, count: int) -> None:
    for number in range(count):
        name = answers.answer(f"chatcmpl-{number}", f"Pertanyaan {number}?", "Jawaban.")
        answers.review(name)


def learned(recipe: str = NAME, **given: object) -> State[object]:
    return learn(recipe, return_state=True, **given)  # type: ignore[call-overload,no-any-return]


def why(state: State[object]) -> KawanUsahaError:
    assert state.is_failed()
    found = state.result(raise_on_failure=False)
    assert isinstance(found, KawanUsahaError)
    return found


def test_what_was_never_released_cannot_learn(home: Path) -> None:
    error = why(learned("demo"))
    assert isinstance(error, RecipeError)
    assert "Nothing has been released" in str(error)


def test_a_recipe_that_trains_nothing_cannot_learn(home: Path) -> None:
    release(home, Recipe(name=NAME))
    assert "cannot learn" in str(why(learned()))


def test_a_deployment_that_has_collected_nothing_is_named(home: Path) -> None:
    release(home, RECIPE)
    error = why(learned())
    assert isinstance(error, UsageError)
    assert "has collected nothing" in str(error)


@pytest.mark.parametrize("override", ["finetune.data=other.json", "finetune="])
def test_overrides_that_leave_out_what_is_to_be_learned_are_refused_before_any_work(
    home: Path, answers: Kept, override: str
) -> None:
    accept(answers, 60)
    error = why(learned(overrides=(override,)))
    assert isinstance(error, RecipeError)
    assert "[{collected: belajar}]" in str(error)
    assert list(Store(home).artifacts()) == []


def test_too_little_that_is_new_is_skipped_and_nothing_is_decided(
    home: Path, answers: Kept
) -> None:
    accept(answers, 12)
    answers.answer("chatcmpl-unreviewed", "Lain?", "Lain.")
    rejected = answers.answer("chatcmpl-rejected", "Buruk?", "Buruk.")
    answers.review(rejected, "reject")
    state = learned()
    assert state.name == "Skipped"
    assert state.message == "12 new reviewed conversations; 50 are needed."
    assert LearningDecisions(home, NAME).all() == []
    assert [artifact.key.stage for artifact in Store(home).artifacts()] == ["collected"]


def test_a_set_that_has_lost_an_answer_is_learned_again_where_none_has_to_be_new(
    home: Path, answers: Kept
) -> None:
    accept(answers, 12)
    ids = tuple(f"chatcmpl-{number}" for number in range(13))  # of which one is deleted now
    LearningDecisions(home, NAME).add("w", "s", ids, ending="released", model="fuse-1", reasons=())
    assert learned(min_new=1).message == "0 new reviewed conversations; 1 are needed."
    assert learned(min_new=0).name != "Skipped"


def test_without_anything_held_out_there_is_nothing_to_prove_with(
    home: Path, answers: Kept
) -> None:
    accept(answers, 1)
    state = learned(min_new=1)
    assert state.name == "Skipped"
    assert "held out for measuring" in str(state.message)


def test_the_file_of_a_recipe_names_it_as_well_as_its_name(
    home: Path, answers: Kept, tmp_path: Path
) -> None:
    accept(answers, 2)
    file = tmp_path / "another-name.yaml"
    file.write_text(yaml.safe_dump({"name": NAME}))
    assert learned(str(file)).message == "2 new reviewed conversations; 50 are needed."


def test_what_was_collected_is_added_once_and_a_weight_of_it_stays() -> None:
    added = with_collected(RECIPE, NAME)
    assert added.finetune is not None
    assert [source.collected for source in added.finetune.data] == [None, NAME]
    assert with_collected(added, NAME) == added
    heavy = RECIPE.finetune.model_copy(  # type: ignore[union-attr]
        update={"data": (DataSource(collected=NAME, weight=3.0),)}
    )
    given = RECIPE.model_copy(update={"finetune": heavy})
    assert with_collected(given, NAME) == given


def test_the_watch_tells_of_what_was_reviewed_and_not_yet_learned(
    home: Path, answers: Kept
) -> None:
    accept(answers, 5)
    Kept(state_directory(home, "never-released").root / COLLECTED)
    sets = LearningDecisions(home, NAME)
    sets.add("w", "s", ("chatcmpl-0",), ending="refused", model="fuse-1", reasons=())
    assert [str(each) for each in pending_reviews(home)] == [
        f"{NAME}: 4 new of 5 reviewed conversations",
    ]
    told = list[Notice]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.learn_watch.notify", told.append)
        assert learn_watch(min_new=5, return_state=True).name == "Skipped"
        assert told == []
        state = learn_watch(min_new=4, return_state=True)
    assert state.name == "Completed"
    (notice,) = told
    event = notice.event()
    assert event.event == "kawan-usaha.reviewed"
    assert event.resource.name == NAME
    assert event.payload["facts"] == {"new": 4, "answers": 5}


def test_a_home_without_deployments_has_nothing_to_tell(home: Path) -> None:
    state = learn_watch(return_state=True)
    assert state.name == "Skipped"
    assert state.message == "No deployment of a released recipe collects answers."
