"""Plan: whether the recipe can work here, told before anything is started."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tasks.core.architecture.names import check_edit_names
from tasks.core.conversation.estimate import lengths_of, training_lengths
from tasks.core.conversation.model_limits import check_length, check_token_ids
from tasks.core.conversation.screening import Rules, screen
from tasks.core.conversation.template import get_template
from tasks.core.devices import Kind, require_room
from tasks.core.errors import (
    DeviceBusy,
    HubError,
    HubOffline,
    HubUnavailable,
    RecipeError,
    StorageUnavailable,
    WrongToken,
)
from tasks.core.evaluation.evaluate import LENGTH, WITH_ACTIVATIONS, measurement_identity
from tasks.core.foreign import JsonObject
from tasks.core.given_files import require_at_rest
from tasks.core.home import home
from tasks.core.hub.client import usable_token
from tasks.core.hub.publish_opened import require_open
from tasks.core.hub.upstream import Sources
from tasks.core.model_config import with_rope_scaling
from tasks.core.planning.gpus import parse_gpus
from tasks.core.planning.hardware import Hardware, read_hardware, with_gpus, with_link, with_speed
from tasks.core.planning.render import render, render_summary
from tasks.core.planning.shapes import (
    ModelShape,
    dtype_from_config,
    known_shape,
    shape_from_config,
)
from tasks.core.planning.stages import Sizes
from tasks.core.planning.verdict import Plan, plan
from tasks.core.recipe import Recipe
from tasks.core.serving.engines.registry import engine_of
from tasks.core.serving.ports import require_port
from tasks.core.serving.processes import own_processes
from tasks.core.serving.state import state_directory
from tasks.core.store import configured_remote
from tasks.core.template_record import require_recorded
from tasks.core.training.checks import check_config, check_conversations, check_settings
from tasks.core.training.launch import require_tools
from tasks.progress import say, warn
from tasks.runtime import stage_task
from tasks.telling import as_code, show_markdown

EVERY = ("finetune", "evaluate", "publish", "deploy")
"""The stages that need something of the machine that they run on."""


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
    if "publish" in stages:
        _require_target(recipe)
    found = plan_of(recipe, home(), sources=sources)
    require_devices(recipe, found.hardware, stages)
    for busy in gpus_short_of_room(recipe, found, stages):
        say(f"Unless its result is in the store already: {busy}")
    say(f"{render_summary(found)}\n`kawan-usaha plan` shows the memory term by term.")
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
        warn(
            f"{remote.url}: {error.what} Nothing can be built or shared until it answers. "
            f"({error.found or error.expected})"
        )
    else:
        say(f"Artifacts are shared through {remote.url}.")


def _require_target(recipe: Recipe) -> None:
    """Raise what publishing would end with; without a Hub only where the recipe asks for one."""
    if recipe.publish is None:
        return
    try:
        require_open(recipe.publish)
    except (HubUnavailable, HubOffline) as error:
        if recipe.when_offline == "refuse":
            raise
        warn(f"Whether the model can be published is not known now: {error.what}")


def _say_commits(sources: Sources, taken: Mapping[str, str]) -> None:
    for source, commit in sources.commits.items():
        as_before = ", as in the attempt before" if source in taken else ""
        say(f"{source} is taken at commit {commit[:12]}{as_before}")
    for warning in sources.warnings:
        warn(warning)


def plan_of(
    recipe: Recipe, home: Path, *, gpus: str | None = None, sources: Sources | None = None
) -> Plan:
    """Return the plan on this machine, or on one with the GPUs that are named.

    A well-known base is planned by its published shape; of another one the Hub is asked. The CPU is
    measured for a moment when the recipe computes on it, and the link to the GPU once when it
    trains there; those of another machine cannot be.
    """
    sources = sources or Sources.of(recipe, home)
    hardware = read_hardware(home)
    if gpus is not None:
        hardware = with_gpus(hardware, parse_gpus(gpus))
    elif "cpu" in _devices(recipe).values():
        hardware = with_speed(hardware, home)
    if recipe.finetune is not None and recipe.finetune.device == "cuda":
        hardware = with_link(hardware, home)
    sizes = _lengths(recipe)
    shape = known_shape(recipe.base.repo) if recipe.base.repo else None
    if shape is not None:
        config = _published_config(shape)
    else:
        config = sources.base.config()
        shape = shape_from_config(config, where=recipe.base)
        sizes = replace(
            sizes,
            base_bytes=sources.base.size_bytes(),
            delta_bytes=sources.delta.size_bytes() if sources.delta else None,
            stored_dtype=dtype_from_config(config),
        )
    warnings = check_models(recipe, config)
    made = plan(recipe, hardware, shape, sizes=sizes)
    return replace(made, warnings=(*sources.warnings, *warnings, *made.warnings))


def _published_config(shape: ModelShape) -> JsonObject:
    """Return what config.json of a published LLaMA says of its vocabulary and its positions."""
    return {
        "model_type": "llama",
        "max_position_embeddings": shape.context,
        "vocab_size": shape.vocab,
    }


def check_models(recipe: Recipe, config: JsonObject) -> tuple[str, ...]:
    """Return what to warn of in the models that the recipe makes of a base with this config.json.

    Raises NotAModel and RecipeError where configuration and recipe do not agree.
    """
    base, length_tokens = str(recipe.base), recipe.evaluate.max_length_tokens
    edited, model = config, base
    scaling = None if recipe.edit is None else recipe.edit.rope_scaling
    warnings: tuple[str, ...] = ()
    if scaling is not None:
        edited = with_rope_scaling(config, scaling.rope_type, scaling.factor)
        model = f"{base}, edited,"
        warnings = check_length(config, length_tokens, setting=LENGTH, model=base, compared=True)
    check_token_ids(config, where=base)
    warnings += check_length(edited, length_tokens, setting=LENGTH, model=model)
    if recipe.finetune is not None:
        warnings += check_config(edited, recipe.finetune, model=model)
    return warnings


def _lengths(recipe: Recipe) -> Sizes:
    """Return how long the conversations of the recipe are, as far as they are here."""
    settings, sizes = recipe.evaluate, Sizes()
    held_out = lengths_of(settings.conversations, cut=settings.max_length_tokens)
    if held_out is not None:
        count = min(held_out.conversations, settings.max_conversations or held_out.conversations)
        tokens = round(count * held_out.mean_tokens)
        sizes = replace(sizes, held_out_conversations=count, held_out_tokens=tokens)
    if recipe.finetune is None:
        return sizes
    training = training_lengths(recipe.finetune)
    if training is None:
        return sizes
    return replace(
        sizes, training_tokens=training.tokens, conversation_tokens=training.padded_tokens
    )


def _devices(recipe: Recipe) -> dict[str, str]:
    """Return what each stage that computes does it on."""
    parts = {"finetune": recipe.finetune, "evaluate": recipe.evaluate, "deploy": recipe.deploy}
    return {name: part.device for name, part in parts.items() if part is not None}


def check_inputs(recipe: Recipe) -> None:
    """Raise the error that a later stage would end with on any machine.

    Looks at the recipe, the data files and the template that the model records; `plan_of` checks
    the model's configuration.
    """
    get_template(recipe.template)
    measurement_identity(recipe.evaluate, recipe.template)
    screen(recipe.evaluate.conversations, Rules.of_held_out(recipe.evaluate)).require_acceptable()
    if recipe.edit is not None:
        check_edit_names(recipe.edit)
    if recipe.finetune is not None:
        check_settings(recipe.finetune, recipe.template)
        require_at_rest(recipe.finetune.data)
        check_conversations(recipe.finetune.data)


def check_recipe(recipe: Recipe, home: Path, stages: Collection[str] = EVERY) -> None:
    """Raise the error that one of `stages` would end with on this machine, as far as it is known.

    What would fail on any machine is looked at for all of the recipe.
    """
    trains = "finetune" in stages
    check_inputs(recipe if trains else _without_hostfile(recipe))
    if recipe.finetune is not None and trains:
        require_tools(recipe.finetune)
    target = recipe.publish.repo if recipe.publish and "publish" in stages else None
    if target and usable_token() is None:
        raise WrongToken(
            "Publishing needs a token, and there is none.",
            where="publish.repo",
            expected="HF_TOKEN, or the login of `hf auth login`",
            next_step="`export HF_TOKEN=…` with a token that may write, or leave publish out.",
        )
    if recipe.deploy is not None and "deploy" in stages:
        own = own_processes(state_directory(home, recipe.name).root)
        pids = {each.process.pid for each in own}
        gateway = recipe.deploy.gateway
        require_port(gateway.host, gateway.port, ours=pids)
        if recipe.deploy.page is not None:
            require_port("127.0.0.1", recipe.deploy.page.port, field="page.port", ours=pids)
        engine_of(recipe.deploy.engine).check(recipe.deploy)


def _without_hostfile(recipe: Recipe) -> Recipe:
    """Return the recipe for a machine that does not train: the file is on the one that does."""
    if recipe.finetune is None:
        return recipe
    settings = recipe.finetune.model_copy(update={"hostfile": None})
    return recipe.model_copy(update={"finetune": settings})


def require_own_template(recipe: Recipe, sources: Sources) -> None:
    """Raise TemplateMismatch when the model was trained with another template than the recipe's.

    A fine-tune trains it with the recipe's. Where the Hub cannot be asked now, the evaluation finds
    it out, before anything is published or served.
    """
    if recipe.finetune is not None:
        return
    upstream = sources.delta or sources.base
    with suppress(HubError, HubOffline):
        recorded = upstream.template()
        way_out = f"Set template: {recorded} in the recipe."
        require_recorded(recorded, recipe.template, upstream.source, next_step=way_out)


def require_devices(recipe: Recipe, hardware: Hardware, stages: Collection[str] = EVERY) -> None:
    """Raise RecipeError when one of `stages` is to compute on a GPU and there is none."""
    devices = _devices(recipe).items()
    wanting = [name for name, device in devices if device == "cuda" and name in stages]
    if wanting and not hardware.gpus:
        raise RecipeError(
            "The recipe computes on a GPU, and this machine has none.",
            where=", ".join(f"{name}.device" for name in wanting),
            expected="a CUDA device",
            found=hardware.gpu_note or "no GPU",
            next_step="Run on a machine with a GPU, or set `device: cpu`. "
            f"`kawan-usaha plan {recipe.name} --gpus 1xRTX4090` shows what would fit. The recipe "
            "`demo` needs no GPU: `kawan-usaha rebuild demo`, or the deployment `demo` in the UI.",
        )


def gpus_short_of_room(
    recipe: Recipe, found: Plan, stages: Collection[str] = EVERY
) -> Iterator[DeviceBusy]:
    """Yield what fine-tune and evaluation would be refused with beside the deployments of now.

    Only said, not raised: a stage whose artifact is there needs no GPU.
    """
    needs: list[tuple[Kind, int | None, int]] = []
    training = found.training if "finetune" in stages else None
    if recipe.finetune is not None and training is not None:
        rung = training.rungs[(training.first_fitting or 1) - 1]
        needs.append((recipe.finetune.device, recipe.finetune.processes, rung.gpu_bytes))
    weights = WITH_ACTIVATIONS * found.shape.weight_bytes("float16")
    gpus = len(found.hardware.gpus) or 1
    if "evaluate" in stages:
        needs.append((recipe.evaluate.device, None, int(weights / gpus)))
    for kind, count, needed_bytes in needs:
        try:
            require_room(kind, count, needed_bytes)
        except DeviceBusy as busy:
            yield busy
