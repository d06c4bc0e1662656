"""What a checkpoint may hold: tensors and plain values. Looked at before anything of it is loaded.

DeepSpeed reads its own part with Python's unpickler (`torch.load(..., weights_only=False)`, in its
torch_checkpoint_engine.py), which runs whatever a file asks for; and a checkpoint may come from a
remote store, which others can write to. So each file of it is read here first by torch's restricted
unpickler, without its tensors' data, and nothing of it is run.

The invariant: what DeepSpeed or transformers then unpickles asks for no name that is not listed.
"""

from pathlib import Path

from tasks.core.errors import CorruptWeights, KawanUsahaError, UnsafeWeights
from tasks.core.files.foreign import leaves
from tasks.core.files.listing import paths_below
from tasks.core.weights.torch_bin import load_on_meta

_NEVER_UNPICKLED = (".safetensors", ".json", ".txt", ".py")
"""`zero_to_fp32.py` is a tool for people, which DeepSpeed puts beside its part."""
_LATEST = "latest"
"""Holds the name of the directory that DeepSpeed reads."""

_NAMES = (
    # Of DeepSpeed: how the gradients are scaled, the stage, where a parameter lies in its group.
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.utils.tensor_fragment.fragment_address",
    # Of numpy's random generator, as transformers saves it.
    "numpy._core.multiarray._reconstruct",
    "numpy.ndarray",
    "numpy.dtype",
)


def require_no_code(checkpoint: Path) -> None:
    """Return when nothing in a checkpoint would run code while it is loaded.

    Raises UnsafeWeights for a file that asks for it, or for one outside, CorruptWeights for one
    that cannot be looked at.
    """
    for file in (path for path in paths_below(checkpoint) if path.is_file()):
        if file.name == _LATEST:
            _require_inside(file)
        elif file.suffix not in _NEVER_UNPICKLED:
            _require_data(file, checkpoint)


def _require_inside(file: Path) -> None:
    found = file.read_text(errors="replace").strip()
    if leaves(found):
        raise UnsafeWeights(
            "The checkpoint names a directory outside itself; nothing of it was loaded.",
            where=file,
            found=found[:100],
            next_step=_next_step(file.parent),
        )


def _require_data(file: Path, checkpoint: Path) -> None:
    try:
        load_on_meta(file, _NAMES)
    except (UnsafeWeights, CorruptWeights) as error:
        raise _with_next_step(error, checkpoint) from error


def _with_next_step(error: KawanUsahaError, checkpoint: Path) -> KawanUsahaError:
    return type(error)(
        error.what, where=error.where, found=error.found, next_step=_next_step(checkpoint)
    )


def _next_step(checkpoint: Path) -> str:
    return (
        f"Remove {checkpoint}, and the directory of this training below staging/ in the remote "
        "store, if it came from there: the training then starts over. See who may write there."
    )
