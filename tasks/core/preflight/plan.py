"""The plan of a recipe on this machine, or on one with other GPUs.

Gathers the inputs that planning takes as values: the machine, the model's shape, and the lengths of
the conversations.
"""

from dataclasses import replace
from pathlib import Path

from tasks.core.architecture.edits.selection import plan_activations
from tasks.core.conversation.estimate import lengths_of, training_lengths
from tasks.core.files.foreign import JsonObject
from tasks.core.hub.download.sources import Sources
from tasks.core.machine.gpus import parse_gpus
from tasks.core.machine.hardware import read_hardware, with_gpus, with_link, with_speed
from tasks.core.planning.plan import Plan, plan_recipe
from tasks.core.planning.shape import (
    ModelShape,
    dtype_from_config,
    known_shape,
    shape_from_config,
)
from tasks.core.planning.stages import Sizes
from tasks.core.preflight.checks import check_models, devices_of
from tasks.core.recipe import Recipe


def plan_of(
    recipe: Recipe, home: Path, *, gpus: str | None = None, sources: Sources | None = None
) -> Plan:
    """Return the plan on this machine, or on one with the named GPUs.

    A well-known base is planned by its published shape; for another one the Hub is asked. The CPU
    is measured for a moment if the recipe computes on it, and the link to the GPU once if it trains
    there; neither can be measured for another machine. Raises
    RecipeError for an edit of a layer that the model does not have.
    """
    sources = sources or Sources.of(recipe, home)
    hardware = read_hardware(home)
    if gpus is not None:
        hardware = with_gpus(hardware, parse_gpus(gpus))
    elif "cpu" in devices_of(recipe).values():
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
    if recipe.edit is not None:
        plan_activations(recipe.edit.activations, shape.layers)
    warnings = check_models(recipe, config)
    made = plan_recipe(recipe, hardware, shape, sizes=sizes)
    return replace(made, warnings=(*sources.warnings, *warnings, *made.warnings))


def _published_config(shape: ModelShape) -> JsonObject:
    """Return the part of a published LLaMA's config.json that the checks read."""
    return {
        "model_type": "llama",
        "max_position_embeddings": shape.context,
        "vocab_size": shape.vocab,
    }


def _lengths(recipe: Recipe) -> Sizes:
    """Return the lengths of the recipe's conversations, as far as they are on this machine."""
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
