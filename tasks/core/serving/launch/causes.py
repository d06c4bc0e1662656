"""Why an engine's process ended, explained so that a user can act on it.

Judges by what supervisord logged about the exit and by the last lines of the process's own log. The
invariant: the end of the log is always part of the error, whether or not the cause is known.
"""

import re
from dataclasses import dataclass
from typing import Final

from tasks.core.errors import KawanUsahaError, PortTaken, ServingFailed
from tasks.core.serving.proof.readiness import REFUSED, refusal_from
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.state.slots import Slot

_TAIL_BYTES = 16_384
_TAIL_LINES = 25
_HALVED = "<8 bits>"  # stands for the advice to use 8-bit weights, unless they are used already
_PROGRESS = re.compile(r"\d+%\|")


@dataclass(frozen=True)
class _Cause:
    """How a fault appears in the log, what it means, and what to do."""

    pattern: str
    what: str
    next_step: str
    error: type[KawanUsahaError] = ServingFailed


_CAUSES: Final = (
    _Cause(
        r"address already in use",
        "Another process took the engine's port in the meantime.",
        "Run it again: the engine gets another port then.",
        PortTaken,
    ),
    _Cause(
        r"CUDA out of memory|torch\.OutOfMemoryError",
        "The engine does not fit into the GPU's memory.",
        f"{_HALVED}Spread it over more GPUs (deploy.gpus; `--gpus`), or free this one: nvidia-smi "
        "shows what is on it.",
    ),
    _Cause(
        r"not compiled with CUDA|No CUDA GPUs|Found no NVIDIA driver|CUDA driver",
        "There is no GPU that the engine can use.",
        "Set deploy.device: cpu (`--device cpu`), or look at nvidia-smi.",
    ),
    _Cause(
        r"KeyError: 'lm_head\.weight'",
        "FastChat's 8-bit loading needs a separate output layer; this model ties it to the "
        "embeddings.",
        "Set deploy.load_8bit: false (`--no-load-8bit`).",
    ),
    _Cause(
        r"the model answers no more",
        "The model failed while the engine was running.",
        "Its log above says why. The watch restarts it; if it fails again, use another engine.",
    ),
    _Cause(
        r"SafetensorError|UnpicklingError|PytorchStreamReader",
        "The weights of the model cannot be read.",
        "Check them with `kawan-usaha inspect MODEL`, and build or download the model again.",
    ),
    _Cause(
        r"get_conv_template[\s\S]*KeyError",
        "FastChat has no conversation template of this name.",
        "Use one of fastchat.conversation (`template` in the recipe; `--template`).",
    ),
)


def explain_end(
    state: StateDirectory, name: Slot, *, oom_kills: int, load_8bit: bool
) -> KawanUsahaError:
    """Return why the engine in the slot `name` of a deployment ended.

    oom_kills counts out-of-memory kills in its control group since it started; load_8bit says
    whether its weights are in 8 bits already.
    """
    halved = "" if load_8bit else "Set deploy.load_8bit: true (`--load-8bit`). "
    end = _end_noted(state, name)
    tail = log_tail(state, name)
    refusal = state.slot(name).refusal
    if end == f"exit status {REFUSED}" and refusal.exists():
        return refusal_from(refusal.read_text())
    if "SIGKILL" in end and oom_kills:
        return _died(
            "The kernel killed the engine because memory ran out.",
            f"{end}\n{tail}",
            f"{halved}Use a machine (or a container) with more memory.",
        )
    for cause in _CAUSES:
        if re.search(cause.pattern, tail):
            what, next_step = cause.what, cause.next_step.replace(_HALVED, halved)
            return _died(what, f"{end}\n{tail}", next_step, cause.error)
    return _died(
        "The engine exited while it was starting.",
        f"{end}\n{tail}",
        f"The complete log is {state.log_of(name)}.",
    )


def log_tail(state: StateDirectory, name: str) -> str:
    """Return the last lines of a process's log without progress bars, "" without a log."""
    try:
        with state.log_of(name).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join([line for line in lines if not _PROGRESS.search(line)][-_TAIL_LINES:])


def _end_noted(state: StateDirectory, name: str) -> str:
    """Return how a process last ended by supervisord's log, such as "exit status 1"."""
    ends = re.findall(rf"exited: {name} \(([^;)]*)", log_tail(state, "supervisord"))
    return ends[-1] if ends else "unknown exit"


def _died(
    what: str, found: str, next_step: str, error: type[KawanUsahaError] = ServingFailed
) -> KawanUsahaError:
    return error(what, found=found, next_step=next_step)
