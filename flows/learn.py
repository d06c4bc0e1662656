"""`learn`: from the released recipe and what people have said since, to a release or to why not.

It is a rebuild of the recipe as it was released, with the reviewed conversations of its deployment
among the data, and with one more proof before the gate: on the reviewed conversations that are held
out the new model must not be worse than the release. What comes of it is one page, and one decision
on record. The invariants: nothing is released that was not held against the release, and the same
reviewed set is not learned twice.
"""

from contextlib import suppress
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.form import Deployed, MaxRatio, MinNew, Overrides, RecipeName
from flows.learning_proof import Learning
from flows.lifecycle import failed, rebuilt
from flows.overlap import skipped
from flows.report import RebuildReport
from tasks.collected import collected
from tasks.core.errors import KawanUsahaError, RecipeError
from tasks.core.files.locks import WAIT_S, locked
from tasks.core.home import home
from tasks.core.learning.learned import LearnedSets, work_of
from tasks.core.learning.material import material_in
from tasks.core.learning.released import released_recipe
from tasks.core.process.stopping import stop_in_time
from tasks.core.recipe import Recipe
from tasks.core.recipe.data import DataSource
from tasks.core.recipe.file import find_recipe, load_recipe
from tasks.core.recipe.overrides import overridden
from tasks.core.store import Store
from tasks.core.store.runs import RunRecords
from tasks.runtime import StageResult, run


@flow(name="learn", flow_run_name="{recipe}: learn")
def learn(
    recipe: RecipeName = "kawan-usaha-13b",
    *,
    deployment: Deployed = "",
    min_new: MinNew = 50,
    max_ratio: MaxRatio = 1.0,
    overrides: Overrides = (),
) -> State[RebuildReport] | State[KawanUsahaError] | State[None]:
    """Train the released recipe again with what was reviewed since, and release it if it is better.

    Ends as `Skipped` while too little is new, and where this reviewed set was learned before. A
    model that is not released is explained on one page: what got better, what worse, by topic.

    Args:
        recipe: The name of a recipe that was released, or the path of its YAML file.
        deployment: Whose collected and reviewed conversations are learned. By default the one of
            the recipe's name.
        min_new: So many accepted answers that no earlier run has learned are worth a training.
            With 0, also a set that has only lost some, which somebody has had deleted.
        max_ratio: Highest perplexity on the reviewed conversations that are held out, against that
            of the release; 1.0 is not worse, 0.98 is better by 2 %.
        overrides: Fields of the released recipe that this run changes, one each, such as
            `finetune.epochs=2`. The same reviewed set is learned once more with others.
    """
    name = recipe
    try:
        name = _name_of(recipe)
        if (at_work := skipped(name)) is not None:
            return at_work
        sets, say = LearnedSets(home(), name), get_run_logger().info
        with (
            stop_in_time(),
            locked(sets.lock, f"learn {name}", wait_s=WAIT_S, say=say),
            Store(home(), f"learn {name}", say).in_use(),
        ):
            released = released_recipe(RunRecords(home()), name)
            wanted = with_collected(released, deployment or name)
            _require_collected(overridden(wanted, overrides), deployment or name)
            found = run(collected, deployment or name)
            why_not = _nothing_to_learn(found, sets, min_new, overrides)
            if why_not is not None:
                return Completed(name="Skipped", message=why_not)
            return _learned(wanted, deployment or name, sets, max_ratio, overrides)
    except Exception as error:  # noqa: BLE001 - whatever nobody knows is raised again
        return failed(name, error)


def with_collected(recipe: Recipe, deployment: str) -> Recipe:
    """Return the recipe with what was collected by the deployment among its data.

    One that has it keeps its weight. Raises RecipeError for a recipe that trains nothing.
    """
    if recipe.finetune is None:
        raise RecipeError(
            "This recipe fine-tunes nothing, so that it cannot learn.",
            where=f"{recipe.name}: finetune",
            next_step="Give the recipe a fine-tune, and release it once.",
        )
    data = recipe.finetune.data
    if all(source.collected != deployment for source in data):
        data = (*data, DataSource(collected=deployment))
    finetune = recipe.finetune.model_copy(update={"data": data})
    return recipe.model_copy(update={"finetune": finetune})


def _require_collected(recipe: Recipe, deployment: str) -> None:
    """Raise RecipeError where the overrides leave out what is to be learned."""
    data = () if recipe.finetune is None else recipe.finetune.data
    if all(source.collected != deployment for source in data):
        raise RecipeError(
            "The overrides leave out what is to be learned.",
            where=f"{recipe.name}: finetune.data",
            expected=f"{{collected: {deployment}}} among the sources",
            found=", ".join(map(str, data)) or "none",
            next_step=f"Name it as well, as in 'finetune.data=[{{collected: {deployment}}}]'.",
        )


def _name_of(recipe: str) -> str:
    """Return the name of a recipe that is given by its name or its file."""
    if RunRecords(home()).last_release(recipe) is None:
        with suppress(RecipeError):
            return load_recipe(find_recipe(recipe)).name
    return Path(recipe).name if "/" in recipe else recipe


def _nothing_to_learn(
    found: StageResult, sets: LearnedSets, min_new: int, overrides: tuple[str, ...]
) -> str | None:
    """Return why a training would not be worth it, None where it is."""
    before = sets.decided(work_of(found.digest, overrides))
    if before is not None:
        return (
            f"This reviewed set was learned on {before.decided_at:%Y-%m-%d}, and the model was "
            f"{before.ending}. Nothing was reviewed since."
        )
    material = material_in(found.path, sets)
    if not overrides and material.new < min_new:
        return f"{material.new} of {min_new} new reviewed conversations are there."
    if not material.conversations or not material.held_out:
        return (
            f"{material.conversations} reviewed conversations to learn from and "
            f"{material.held_out} held out to measure with: there must be some of each."
        )
    return None


def _learned(
    recipe: Recipe,
    deployment: str,
    sets: LearnedSets,
    max_ratio: float,
    overrides: tuple[str, ...],
) -> State[RebuildReport] | State[KawanUsahaError]:
    """Return how the rebuild ended, with its page and its decision where there is one."""
    learning = Learning(deployment, sets, max_ratio)
    ended = rebuilt(recipe, "plan", "deploy", overrides, None, proof=learning.prove)
    if ended.is_completed():
        learning.decide("released", overrides)
    elif learning.is_refused:
        learning.decide("refused", overrides)
    return ended
