"""Why a server process ended, in words that a user can act on.

Judges from what supervisord noted about the end and from the last lines of the process's own log.
The invariant: the end of the log is always part of the error, whether its cause is known or not.
"""

import re
from dataclasses import dataclass
from typing import Final

from tasks.core.errors import KawanUsahaError, PortTaken, ServingFailed
from tasks.core.serving.launch.ports import OTHER_PORT
from tasks.core.serving.proof.readiness import REFUSED, refusal_from
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.state.slots import Slot

_TAIL_BYTES = 16_384
_TAIL_LINES = 25
_HALVED = "<8 bits>"  # where it is advised to halve the weights, unless they are halved already
_PROGRESS = re.compile(r"\d+%\|")


@dataclass(frozen=True)
class _Cause:
    """How a fault shows in the log, what it means, and what to do."""

    pattern: str
    what: str
    next_step: str
    error: type[KawanUsahaError] = ServingFailed


_CAUSES: Final = (
    _Cause(
        r"address already in use",
        "Another process took the port of the engine meanwhile.",
        OTHER_PORT,
        PortTaken,
    ),
    _Cause(
        r"CUDA out of memory|torch\.OutOfMemoryError",
        "The engine does not fit into the memory of the GPU.",
        f"{_HALVED}Spread it over more GPUs (deploy.gpus; `--gpus`), or free this one: nvidia-smi "
        "shows what is on it.",
    ),
    _Cause(
        r"not compiled with CUDA|No CUDA GPUs|Found no NVIDIA driver|CUDA driver",
        "There is no GPU that the engine could use.",
        "Set deploy.device: cpu (`--device cpu`), or look at nvidia-smi.",
    ),
    _Cause(
        r"KeyError: 'lm_head\.weight'",
        "FastChat's 8-bit loading needs an output layer of its own; this model ties it to the "
        "embeddings.",
        "Set deploy.load_8bit: false (`--no-load-8bit`).",
    ),
    _Cause(
        r"the model answers no more",
        "The engine's model failed in the middle of its work.",
        "Its log above says how. The watch starts it again; if it stays, take another engine.",
    ),
    _Cause(
        r"SafetensorError|UnpicklingError|PytorchStreamReader",
        "The weights of the model cannot be read.",
        "Check them with `kawan-usaha inspect MODEL`, and build or download the model again.",
    ),
    _Cause(
        r"get_conv_template[\s\S]*KeyError",
        "FastChat knows no conversation template of this name.",
        "Name one of fastchat.conversation (`template` in the recipe; `--template`).",
    ),
)


def explain_end(
    state: StateDirectory, name: Slot, *, oom_kills: int, load_8bit: bool
) -> KawanUsahaError:
    """Return why the engine in the slot `name` of a deployment ended.

    oom_kills is how often the kernel killed because memory ran out around it since it started;
    load_8bit is whether its weights are in 8 bits already.
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
        "The engine ended while it started.",
        f"{end}\n{tail}",
        f"The whole log is {state.log_of(name)}.",
    )


def log_tail(state: StateDirectory, name: str) -> str:
    """Return the last lines of a process's log without progress bars, "" when there is none."""
    try:
        with state.log_of(name).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join([line for line in lines if not _PROGRESS.search(line)][-_TAIL_LINES:])


def _end_noted(state: StateDirectory, name: str) -> str:
    """Return supervisord's words for how a process ended last: "exit status 1" and the like."""
    ends = re.findall(rf"exited: {name} \(([^;)]*)", log_tail(state, "supervisord"))
    return ends[-1] if ends else "unknown end"


def _died(
    what: str, found: str, next_step: str, error: type[KawanUsahaError] = ServingFailed
) -> KawanUsahaError:
    return error(what, found=found, next_step=next_step)
