"""Plan: whether the recipe can work here, told before anything is started."""

from collections.abc import Collection, Mapping

from tasks.core.errors import HubOffline, HubUnavailable, StorageUnavailable
from tasks.core.home import home
from tasks.core.hub.download.sources import Sources
from tasks.core.hub.publish.preflight import require_open
from tasks.core.hub.source_signature import require_sources_signed
from tasks.core.planning.render import render, render_summary
from tasks.core.preflight.checks import (
    EVERY,
    check_recipe,
    gpus_short_of_room,
    require_devices,
    require_own_template,
    unsigned_when_built,
)
from tasks.core.preflight.plan import plan_of
from tasks.core.recipe import Recipe
from tasks.core.signing import KEY_VARIABLE
from tasks.core.store import configured_remote
from tasks.core.store.seals import TRUSTED_VARIABLE
from tasks.outbox import as_code, show_markdown
from tasks.progress import log_line, log_warning
from tasks.runtime import stage_task


def _name(recipe: Recipe, **_: object) -> str:
    return recipe.name


@stage_task("plan", _name, retries=0)  # the Hub is asked again and again within the attempt
def preflight(
    recipe: Recipe,
    commits: Mapping[str, str],
    overrides: tuple[str, ...] = (),
    stages: Collection[str] = EVERY,
) -> Sources:
    """Return the sources of this run, each at its commit.

    Refuses what cannot work on this machine, and says what the rest will take. commits are those
    that an earlier attempt of the run has taken. The overrides are in the recipe already; they are
    shown beside what they come to. Only `stages` have to work here: the others are finished, or
    another machine does them.
    """
    require_remote()
    check_recipe(recipe, home(), stages)
    sources = Sources.of(recipe, home(), commits)
    _say_commits(sources, taken=commits)
    require_own_template(recipe, sources)
    require_sources_signed(sources)
    if "publish" in stages:
        _require_target(recipe)
    found = plan_of(recipe, home(), sources=sources)
    require_devices(recipe, found.hardware, stages)
    if "deploy" in stages and (reason := unsigned_when_built(recipe)):
        log_warning(f"Unless its model is in the store already, signed: {reason}")
    for busy in gpus_short_of_room(recipe, found, stages):
        log_line(f"Unless its result is in the store already: {busy}")
    log_line(f"{render_summary(found)}\n`kawan-usaha plan` shows the memory term by term.")
    shown = [f"Overrides of this run: {as_code(overrides)}", ""] if overrides else []
    shown.append(f"```\n{render(found)}\n```")
    show_markdown("\n".join(shown), key="plan", description="What the recipe takes")
    return sources


def require_remote() -> None:
    """Raise what the remote store would refuse when the first artifact is finished, if one is set.

    UsageError, MissingTool or StorageRefused. That it cannot be reached now is only said: what is
    here already can be used, and what is not is asked for there before it is built.
    """
    remote = configured_remote()
    if remote is None:
        return
    try:
        remote.require_usable()
    except StorageUnavailable as error:
        log_warning(
            f"{remote.url}: {error.what} Nothing can be built or shared until it answers. "
            f"({error.found or error.expected})"
        )
    else:
        log_line(f"Artifacts are shared through {remote.url}.")
    if not remote.seals.trusts_itself:
        log_warning(
            f"{remote.url}: what this machine builds is signed by none of the keys that it trusts "
            f"({TRUSTED_VARIABLE}). Machines that trust the same keys will refuse it. Set "
            f"{KEY_VARIABLE}."
        )


def _require_target(recipe: Recipe) -> None:
    """Raise what publishing would end with; without a Hub only where the recipe asks for one."""
    if recipe.publish is None:
        return
    try:
        require_open(recipe.publish)
    except (HubUnavailable, HubOffline) as error:
        if recipe.when_offline == "refuse":
            raise
        log_warning(f"Whether the model can be published is not known now: {error.what}")


def _say_commits(sources: Sources, taken: Mapping[str, str]) -> None:
    for source, commit in sources.commits.items():
        as_before = ", as in the attempt before" if source in taken else ""
        log_line(f"{source} is taken at commit {commit[:12]}{as_before}")
    for warning in sources.warnings:
        log_warning(warning)
