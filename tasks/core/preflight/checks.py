"""Preflight: reports the errors that a run would end with, before anything starts.

Covers the recipe, its data files, the models' configuration, and what the stages need on this
machine. Not covered: memory and disk (`preflight.plan`), and the remote store and the publishing
target, which the run's first task checks. Imports neither Prefect nor torch, so that `kawan-usaha
plan` answers at once.
"""

from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from tasks.core.architecture.edits.selection import check_activation_names
from tasks.core.conversation.checking.rules import Rules
from tasks.core.conversation.checking.screening import screen
from tasks.core.conversation.reading.data_sources import is_local, local_files
from tasks.core.conversation.template.render import get_template
from tasks.core.conversation.tokenizer.model_limits import check_length, check_token_ids
from tasks.core.errors import DeviceBusy, HubError, HubOffline, RecipeError, WrongToken
from tasks.core.evaluation.evaluate import WITH_ACTIVATIONS, measurement_identity
from tasks.core.evaluation.side_by_side import check_judge
from tasks.core.files.foreign import JsonObject
from tasks.core.files.given import require_at_rest
from tasks.core.hub.client import usable_token
from tasks.core.hub.download.sources import Sources
from tasks.core.machine.devices import DeviceKind, require_gpu_memory
from tasks.core.machine.hardware import Hardware
from tasks.core.model.config import with_rope_scaling
from tasks.core.model.template_record import require_recorded
from tasks.core.planning.plan import Plan
from tasks.core.recipe import Recipe
from tasks.core.serving.engines.registry import engine_of
from tasks.core.serving.launch.ports import require_port
from tasks.core.serving.state.directory import state_directory
from tasks.core.serving.supervision.processes import own_processes
from tasks.core.signing import KEY_VARIABLE, configured_key, key_of, public_keys
from tasks.core.training.checks import (
    LENGTH_SETTING,
    check_config,
    check_conversations,
    check_settings,
)
from tasks.core.training.launch.tools import require_tools

EVERY = ("finetune", "evaluate", "publish", "deploy")
"""The stages that have requirements on the machine that they run on."""


def check_models(recipe: Recipe, config: JsonObject) -> tuple[str, ...]:
    """Return warnings about the models that the recipe makes from a base with this config.json.

    Raises NotAModel and RecipeError if configuration and recipe do not agree.
    """
    base, length_tokens = str(recipe.base), recipe.evaluate.max_length_tokens
    edited, model = config, base
    scaling = None if recipe.edit is None else recipe.edit.rope_scaling
    warnings: tuple[str, ...] = ()
    if scaling is not None:
        edited = with_rope_scaling(config, scaling.rope_type, scaling.factor)
        model = f"{base}, edited,"
        warnings = check_length(
            config, length_tokens, setting=LENGTH_SETTING, model=base, compared=True
        )
    check_token_ids(config, where=base)
    warnings += check_length(edited, length_tokens, setting=LENGTH_SETTING, model=model)
    if recipe.finetune is not None:
        warnings += check_config(edited, recipe.finetune, model=model)
    return warnings


def devices_of(recipe: Recipe) -> dict[str, str]:
    """Return the device of each stage that computes."""
    parts = {"finetune": recipe.finetune, "evaluate": recipe.evaluate, "deploy": recipe.deploy}
    return {name: part.device for name, part in parts.items() if part is not None}


def check_inputs(recipe: Recipe) -> None:
    """Raise the error that a later stage would end with on any machine.

    Checks the recipe and its data files; `plan_of` checks the model's configuration.
    """
    get_template(recipe.template)
    measurement_identity(recipe.evaluate, recipe.template)
    screen(recipe.evaluate.conversations, Rules.of_held_out(recipe.evaluate)).require_acceptable()
    if recipe.edit is not None:
        check_activation_names(recipe.edit)
    if recipe.finetune is not None:
        check_settings(recipe.finetune, recipe.template)
        for file in local_files([each for each in recipe.finetune.data if is_local(each)]):
            require_at_rest(file.path)
            check_conversations(file, recipe.finetune.method)


def check_recipe(recipe: Recipe, home: Path, stages: Collection[str] = EVERY) -> None:
    """Raise the error that one of `stages` would end with on this machine, as far as it is known.

    Errors that would occur on any machine are checked for the whole recipe.
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
    check_keys(recipe, stages)
    if recipe.evaluate.judge is not None and "evaluate" in stages:
        check_judge(recipe.evaluate.judge)
    if recipe.deploy is not None and "deploy" in stages:
        own = own_processes(state_directory(home, recipe.name).root)
        pids = {each.process.pid for each in own}
        gateway = recipe.deploy.gateway
        require_port(gateway.host, gateway.port, ours=pids)
        if recipe.deploy.page is not None:
            require_port("127.0.0.1", recipe.deploy.page.port, field="page.port", ours=pids)
        engine_of(recipe.deploy.engine).check(recipe.deploy)


def check_keys(recipe: Recipe, stages: Collection[str] = EVERY) -> None:
    """Raise SigningKeyUnusable if a key that a stage needs for a signature cannot be used."""
    if recipe.publish is not None and recipe.publish.signed_by and "publish" in stages:
        key_of(recipe.publish.signed_by)
    if recipe.deploy is not None and recipe.deploy.signed_by and "deploy" in stages:
        public_keys(recipe.deploy.signed_by)
    for source in (recipe.base, recipe.delta):
        if source is not None and source.signed_by:
            public_keys(source.signed_by)


def unsigned_when_built(recipe: Recipe) -> str | None:
    """Return why the recipe could not serve what this run builds; None if it can.

    Returned, not raised: what is already in the store may carry the signature.
    """
    if recipe.deploy is None or recipe.deploy.signed_by is None:
        return None
    expected, key = public_keys(recipe.deploy.signed_by), configured_key()
    if key is not None and key.public in expected:
        return None
    return (
        f"the recipe serves only models signed by {recipe.deploy.signed_by}, and "
        + (
            f"this machine has no key to sign what it builds ({KEY_VARIABLE})"
            if key is None
            else f"this machine signs what it builds with {key.fingerprint}"
        )
        + "; deploy will refuse it."
    )


def _without_hostfile(recipe: Recipe) -> Recipe:
    """Return the recipe for a machine that does not train, which has no hostfile."""
    if recipe.finetune is None:
        return recipe
    settings = recipe.finetune.model_copy(update={"hostfile": None})
    return recipe.model_copy(update={"finetune": settings})


def require_own_template(recipe: Recipe, sources: Sources) -> None:
    """Raise TemplateMismatch if the model was trained with another template than the recipe's.

    A fine-tune trains it with the recipe's. If the Hub cannot be reached now, the evaluation makes
    this check, before anything is published or served.
    """
    if recipe.finetune is not None:
        return
    source = sources.delta or sources.base
    with suppress(HubError, HubOffline):
        recorded = source.template()
        way_out = f"Set template: {recorded} in the recipe."
        require_recorded(recorded, recipe.template, source.source, next_step=way_out)


def require_devices(recipe: Recipe, hardware: Hardware, stages: Collection[str] = EVERY) -> None:
    """Raise RecipeError if one of `stages` needs a GPU and there is none."""
    devices = devices_of(recipe).items()
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
    """Yield the errors with which running deployments would make fine-tune or evaluation fail.

    Yielded, not raised: a stage whose artifact is already in the store needs no GPU.
    """
    needs: list[tuple[DeviceKind, int | None, int]] = []
    training = found.training if "finetune" in stages else None
    if recipe.finetune is not None and training is not None:
        gpu_bytes = training.shown.gpu_bytes
        needs.append((recipe.finetune.device, recipe.finetune.processes, gpu_bytes))
    weights = WITH_ACTIVATIONS * found.shape.weight_bytes("float16")
    gpus = len(found.hardware.gpus) or 1
    if "evaluate" in stages:
        needs.append((recipe.evaluate.device, None, int(weights / gpus)))
    for kind, count, needed_bytes in needs:
        try:
            require_gpu_memory(kind, count, needed_bytes)
        except DeviceBusy as busy:
            yield busy
