"""The private parts of other libraries that the training relies on, checked before it starts.

Python silently accepts a method that overrides nothing: under another transformers the examples
would come in Trainer's own order, and no state would be saved for another ZeRO stage. Only the
source text is read, so that the caller need not import the libraries.
"""

import importlib.util
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from tasks.core.errors import MissingTool
from tasks.core.model.source_code import methods_of

_TRAINER = "transformers/trainer.py"
OVERRIDDEN: Mapping[str, tuple[str, ...]] = {
    "_get_train_sampler": ("self", "train_dataset"),
    "_prepare_for_training": ("self", "max_steps", "train_dataloader", "resume_from_checkpoint"),
    "_save_optimizer_and_scheduler": ("self", "output_dir"),
    "create_accelerator_and_postprocess": ("self",),
    "create_scheduler": ("self", "num_training_steps", "optimizer"),
    "get_batch_samples": ("self", "epoch_iterator", "num_batches", "device"),
}
"""The undocumented methods of Trainer that our trainers override, with their parameters."""
USED: Mapping[str, tuple[str, ...]] = {
    _TRAINER: (
        "current_gradient_accumulation_steps",
        "_prepare_inputs",
        "self.loss_is_scaled_for_ga is not None",
    ),
    "transformers/integrations/deepspeed.py": ("trainer_copy.create_scheduler",),
    "transformers/masking_utils.py": ("find_packed_sequence_indices",),
    "transformers/models/llama/modeling_llama.py": (
        "apply_rotary_pos_emb(q, k, cos, sin, unsqueeze_dim=1)",
        "= apply_rotary_pos_emb(query_states, key_states, cos, sin)",
        "self.variance_epsilon",
    ),
    "deepspeed/ops/__init__.py": ("__compatible_ops__",),
    "deepspeed/utils/tensor_fragment.py": ("_hp_mapping", "ds_id"),
}
"""Names that are read, set, or relied on, by the file that defines them."""


def require_hooks(
    overridden: Mapping[str, tuple[str, ...]] = OVERRIDDEN,
    used: Mapping[str, tuple[str, ...]] = USED,
) -> None:
    """Raise MissingTool if a library lacks one of them, or no longer calls an overridden method."""
    source = _text(_TRAINER)
    methods = methods_of(source, "Trainer")
    for name, parameters in overridden.items():
        if name not in methods:
            raise _gone(f"Trainer.{name}", _TRAINER, "a method that the training overrides")
        if (found := methods[name]) != parameters:
            takes = f"takes {', '.join(parameters)}"
            raise _gone(f"Trainer.{name}", _TRAINER, takes, found=f"takes {', '.join(found)}")
        if f"self.{name}" not in source:
            raise _gone(f"Trainer.{name}", _TRAINER, "called by Trainer", found="never called")
    for file, names in used.items():
        text = _text(file)
        for name in names:
            if name not in text:
                raise _gone(name, file, "a name that the training uses")


def _text(file: str) -> str:
    library, _, rest = file.partition("/")
    spec = importlib.util.find_spec(library)  # imports nothing
    path = Path(spec.origin).parent / rest if spec and spec.origin else Path(file)
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _gone(name: str, file: str, expected: str, found: str = "not there") -> MissingTool:
    library = file.partition("/")[0]
    return MissingTool(
        f"{library} {version(library)} has no {name} that the training can use.",
        where=file,
        expected=expected,
        found=found,
        next_step=f"Install the {library} of requirements.lock, which was tested.",
    )
