"""The plan of one training on this machine: shown by a dry run, and summarized before a start."""

from pathlib import Path

from tasks.core.conversation.estimate import training_lengths
from tasks.core.errors import KawanUsahaError
from tasks.core.machine.hardware import read_hardware, with_link, with_speed
from tasks.core.planning.shape import shape_of
from tasks.core.planning.training_fit import TrainingFit, fit_training
from tasks.core.recipe import Finetune
from tasks.core.units import about


def planned_training(model: Path, settings: Finetune, home: Path) -> TrainingFit:
    """Return which rungs fit here, how long they take, and what is slow.

    Raises NotAModel if the model is not a LLaMA, RecipeError for a target that LLaMA lacks.
    """
    hardware = read_hardware(home)
    measure = with_speed if settings.device == "cpu" else with_link
    hardware = measure(hardware, home)
    lengths = training_lengths(settings)
    return fit_training(
        shape_of(model),
        settings,
        hardware,
        training_tokens=lengths.tokens if lengths else None,
        conversation_tokens=lengths.padded_tokens if lengths else None,
    )


def training_forecast(model: Path, settings: Finetune, home: Path) -> tuple[str, ...]:
    """Return how long a training takes and what slows it, one line each; never raises.

    A model that cannot be planned gets no lines: it may still train.
    """
    try:
        fit = planned_training(model, settings, home)
    except (KawanUsahaError, OSError, ValueError):
        return ()
    seconds = fit.shown.seconds
    time = () if seconds is None else (f"The training takes {about(seconds)}.",)
    return (*time, *(f"Attention: {text}" for text in fit.warnings))
