"""The class that transformers would load a model with, by its configuration alone."""

from collections.abc import Mapping
from pathlib import Path

from tasks.core.errors import NotAModel
from tasks.core.model.config import read_config
from tasks.core.weights.model_check import check_model


def require_loadable(model: Path) -> None:
    """Check that a directory holds a complete model that transformers has a class for.

    Raises what `check_model` raises, and NotAModel for a model_type that transformers does not
    know. "architectures" is a label and does not decide.
    """
    check_model(model)
    class_that_loads(read_config(model))


def class_that_loads(config: Mapping[str, object]) -> str:
    """Return the name of the class that AutoModelForCausalLM takes, with the model's code trusted.

    Raises NotAModel when there is none.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    own = config.get("auto_map")
    if isinstance(own, dict) and isinstance(own.get("AutoModelForCausalLM"), str):
        return str(own["AutoModelForCausalLM"]).rpartition(".")[2]
    known = dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES).get(str(config.get("model_type")))
    if known is None:
        raise NotAModel(
            "transformers has no causal language model of this type, and the model brings no code.",
            where="config.json: model_type",
            expected="a model_type of transformers, such as llama, or auto_map with "
            "AutoModelForCausalLM",
            found=config.get("model_type"),
            next_step="Correct model_type in config.json.",
        )
    names = (known,) if isinstance(known, str) else tuple(known)
    labels = config.get("architectures")
    labelled = [label for label in labels if label in names] if isinstance(labels, list) else []
    return str((labelled or names)[0])
