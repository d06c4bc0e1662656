"""The flow `learn`: train a released recipe with what was reviewed; release it if it is better.

It rebuilds the recipe as it was released, with the reviewed conversations of its deployment added
to the data and one more check before the gate: on the reviewed conversations that are held out, the
new model must not be worse than the release. The result is one page and one recorded decision. The
invariants: nothing is released without that comparison, and no reviewed set is learned twice.
"""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.form import Deployed, MaxRatio, MinNew, Overrides, RecipeName
from flows.learning.release_check import LearningRun
from flows.rebuild.already_running import skipped_if_running
from flows.rebuild.end_states import failed_state
from flows.rebuild.request import RebuildRequest
from flows.rebuild.run import run_rebuild
from flows.rebuild.run_summary import RunSummary
from tasks.collected import collected
from tasks.core.errors import KawanUsahaError, RecipeError
from tasks.core.files.locks import WAIT_S, locked
from tasks.core.home import home
from tasks.core.learning.decisions import LearningDecisions, learning_key
from tasks.core.learning.released import released_recipe
from tasks.core.learning.reviewed_counts import count_reviewed
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
) -> State[RunSummary] | State[KawanUsahaError] | State[None]:
    """Train the released recipe again with what was reviewed since, and release it if it is better.

    Ends as `Skipped` if too little is new, or if this reviewed set was learned before. One page
    explains why a model is not released: what got better and what worse, by topic.

    Args:
        recipe: The name of a recipe that was released, or the path of its YAML file.
        deployment: The deployment whose collected and reviewed conversations are learned. By
            default the one with the recipe's name.
        min_new: How many accepted answers that no earlier run has learned are worth a training.
            With 0, also a set from which answers were only deleted.
        max_ratio: Highest perplexity on the held-out reviewed conversations, as a ratio to the
            release; 1.0 is not worse, 0.98 is better by 2 %.
        overrides: Fields of the released recipe that this run changes, one each, such as
            `finetune.epochs=2`. With other overrides a reviewed set is learned once more.
    """
    name = recipe
    try:
        name = _name_of(recipe)
        if (at_work := skipped_if_running(name)) is not None:
            return at_work
        deployment = deployment or name
        sets, say = LearningDecisions(home(), name), get_run_logger().info
        with (
            stop_in_time(),
            locked(sets.lock, f"learn {name}", wait_s=WAIT_S, say=say),
            Store(home(), f"learn {name}", say).in_use(),
        ):
            released = released_recipe(RunRecords(home()), name)
            wanted = with_collected(released, deployment)
            _require_collected(overridden(wanted, overrides), deployment)
            found = run(collected, deployment)
            why_not = _nothing_to_learn(found, sets, min_new, overrides)
            if why_not is not None:
                return Completed(name="Skipped", message=why_not)
            learning = LearningRun(deployment, sets, max_ratio)
            return _learned(RebuildRequest(wanted, overrides=overrides), learning)
    except Exception as error:  # noqa: BLE001 - an unexplained error is raised again
        return failed_state(name, error)


def with_collected(recipe: Recipe, deployment: str) -> Recipe:
    """Return the recipe with the conversations of the deployment added to its data.

    A recipe that has them already keeps their weight. Raises RecipeError if it trains nothing.
    """
    if recipe.finetune is None:
        raise RecipeError(
            "This recipe has no fine-tune, so it cannot learn.",
            where=f"{recipe.name}: finetune",
            next_step="Add a fine-tune to the recipe, and release it once.",
        )
    data = recipe.finetune.data
    if all(source.collected != deployment for source in data):
        data = (*data, DataSource(collected=deployment))
    finetune = recipe.finetune.model_copy(update={"data": data})
    return recipe.model_copy(update={"finetune": finetune})


def _require_collected(recipe: Recipe, deployment: str) -> None:
    """Raise RecipeError if the overrides leave out the conversations to learn."""
    data = () if recipe.finetune is None else recipe.finetune.data
    if all(source.collected != deployment for source in data):
        raise RecipeError(
            "The overrides leave out the conversations to learn.",
            where=f"{recipe.name}: finetune.data",
            expected=f"{{collected: {deployment}}} among the sources",
            found=", ".join(map(str, data)) or "none",
            next_step=f"Add the source, as in 'finetune.data=[{{collected: {deployment}}}]'.",
        )


def _name_of(recipe: str) -> str:
    """Return the name of a recipe that is given by name or file."""
    if RunRecords(home()).last_release(recipe) is None:
        with suppress(RecipeError):
            return load_recipe(find_recipe(recipe)).name
    return Path(recipe).name if "/" in recipe else recipe


def _nothing_to_learn(
    found: StageResult, sets: LearningDecisions, min_new: int, overrides: tuple[str, ...]
) -> str | None:
    """Return why there is nothing worth training, None where there is."""
    before = sets.decided(learning_key(found.digest, overrides))
    if before is not None:
        return (
            f"This reviewed set was learned on {before.decided_at:%Y-%m-%d}, and the model was "
            f"{before.ending}. Nothing was reviewed since then."
        )
    material = count_reviewed(found.path, sets)
    if not overrides and material.new < min_new:
        return f"{material.new} new reviewed conversations; {min_new} are needed."
    if not material.conversations or not material.held_out:
        return (
            f"{material.conversations} reviewed conversations to learn from and "
            f"{material.held_out} held out for measuring: both are needed."
        )
    return None


def _learned(
    request: RebuildRequest, learning: LearningRun
) -> State[RunSummary] | State[KawanUsahaError]:
    """Return how the rebuild ended, after recording the decision about its model, if any."""
    ended = run_rebuild(replace(request, release_check=learning.check))
    if ended.is_completed():
        learning.record("released", request.overrides)
    elif learning.is_refused:
        learning.record("refused", request.overrides)
    return ended
