"""A checkpoint may hold tensors and plain values only; checked before anything of it is loaded.

DeepSpeed reads its own part with Python's unpickler (`torch.load(..., weights_only=False)`, in its
torch_checkpoint_engine.py), which executes whatever a file names; and a checkpoint may come from a
remote store that others can write to. So each file is read first by torch's restricted unpickler,
without its tensors' data, which executes nothing.

The invariant: what DeepSpeed or transformers then unpickles names nothing that is not listed here.
"""

from pathlib import Path

from tasks.core.errors import CorruptWeights, KawanUsahaError, UnsafeWeights
from tasks.core.files.foreign import leaves
from tasks.core.files.listing import paths_below
from tasks.core.weights.torch_bin import load_on_meta

_NEVER_UNPICKLED = (".safetensors", ".json", ".txt", ".py")
"""`zero_to_fp32.py` is a tool for people that DeepSpeed writes beside its part."""
_LATEST = "latest"
"""The file with the name of the directory that DeepSpeed reads."""

_NAMES = (
    # DeepSpeed: loss scaling, the stage, the place of a parameter in its group.
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.utils.tensor_fragment.fragment_address",
    # numpy's random state, as transformers saves it.
    "numpy._core.multiarray._reconstruct",
    "numpy.ndarray",
    "numpy.dtype",
)


def require_no_code(checkpoint: Path) -> None:
    """Refuse a checkpoint that would run code while it is loaded.

    Raises UnsafeWeights for a file that names code or a directory outside the checkpoint, and
    CorruptWeights for one that cannot be read.
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
        "store, if it came from there: the training then starts over. Check who can write there."
    )
