"""Plan: checks that the recipe can work here, before anything starts."""

from collections.abc import Collection, Mapping

from tasks.core.errors import HubOffline, HubUnavailable, StorageUnavailable
from tasks.core.home import home
from tasks.core.hub.download.sources import Sources
from tasks.core.hub.publish.preflight import require_open
from tasks.core.hub.source_signature import require_sources_signed
from tasks.core.planning.text import plan_text, summary_text
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

    Raises for anything that cannot work on this machine, and shows the plan of the rest. commits:
    those that an earlier attempt of the run resolved. overrides: already applied to the recipe, and
    shown with the plan. Only `stages` have to work here: the others are finished, or run on another
    machine.
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
    log_line(f"{summary_text(found)}\n`kawan-usaha plan` shows the memory term by term.")
    shown = [f"Overrides of this run: {as_code(overrides)}", ""] if overrides else []
    shown.append(f"```\n{plan_text(found)}\n```")
    show_markdown("\n".join(shown), key="plan", description="What the recipe takes")
    return sources


def require_remote() -> None:
    """Raise the error that the remote store would raise once the first artifact is finished.

    UsageError, MissingTool or StorageRefused. A store that cannot be reached now is only a warning:
    artifacts that are here can be used, and it is asked again before others are built.
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
            f"{remote.url}: this machine signs what it builds with none of the keys that it trusts "
            f"({TRUSTED_VARIABLE}). Machines that trust the same keys will refuse it. Set "
            f"{KEY_VARIABLE}."
        )


def _require_target(recipe: Recipe) -> None:
    """Raise the error that publishing would end with; an unreachable Hub may be only a warning."""
    if recipe.publish is None:
        return
    try:
        require_open(recipe.publish)
    except (HubUnavailable, HubOffline) as error:
        if recipe.when_offline == "refuse":
            raise
        log_warning(f"Publishing could not be checked: {error.what}")


def _say_commits(sources: Sources, taken: Mapping[str, str]) -> None:
    for source, commit in sources.commits.items():
        as_before = ", as in the previous attempt" if source in taken else ""
        log_line(f"{source} is used at commit {commit[:12]}{as_before}")
    for warning in sources.warnings:
        log_warning(warning)
