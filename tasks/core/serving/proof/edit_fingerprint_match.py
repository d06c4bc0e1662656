"""Comparing a server's log-probabilities with those of the edited model and its unedited twin.

Works for any engine, whatever it does to the modules: vLLM fuses an activation with its gate, so
that no module is left to inspect. The invariant: log-probabilities that are clearly closer to the
unedited model's, or close to neither, are an error; where rounding hides the edit, the match says
that it cannot tell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tasks.core.errors import EditLost, ServingFailed
from tasks.core.model.edit_fingerprint import EditFingerprint

TOLERANCES: Final = {
    # How far a server that computes in this type may be from the fingerprint, in the mean over the
    # prompt's tokens. Measured on SmolLM2-135M with GELU in its last layer, which moves the mean by
    # 0.26 (in all layers by 2.2); a larger model rounds less, a wrong one is off by whole units.
    "float32": 1e-3,  # measured 7e-6 (vLLM on a CPU); the edit of a random tiny model is 5e-3
    "float16": 0.03,  # measured 0.006
    "bfloat16": 0.3,  # measured 0.06
    "int8": 0.5,  # simulated: 0.09 by rows, 0.10 in FastChat's groups of 256
    "fp8": 1.5,  # simulated: 0.25 by tensors, 0.30 with the activations in 8 bits too
}
_CLEARLY = 2.0
"""How many times closer to one of the two counts as that one."""
_HIDDEN = 1e-2
"""As a share of the tolerance: models no farther apart than this may differ by rounding alone."""


@dataclass(frozen=True)
class FingerprintMatch:
    """The mean distances of a server's log-probabilities to those of the two models."""

    verdict: Literal["alive", "cannot tell"]
    to_edited: float
    to_unedited: float
    apart: float
    tolerance: float

    def __str__(self) -> str:
        """Return one line for a report."""
        means = f"{self.to_edited:.2g} from the edited model, {self.to_unedited:.2g} from the other"
        if self.verdict == "alive":
            return f"the edit is alive: log-probabilities are {means}"
        return f"log-probabilities are {means}: too close together to tell the edit"


def require_fingerprint(
    fingerprint: EditFingerprint, logprobs: Sequence[float], *, dtype: str, where: str
) -> FingerprintMatch:
    """Return how close the log-probabilities of the prompt are to the edited model's.

    dtype is the type that the server computes in, one of TOLERANCES. Raises EditLost when they are
    farther away than that type rounds, or clearly closer to the unedited model's.
    """
    tolerance = max(_tolerance(dtype, where), _tolerance(fingerprint.dtype, where))
    if len(logprobs) != len(fingerprint.edited):
        raise EditLost(
            "The server answered a different prompt than the one sent.",
            where=where,
            expected=f"{len(fingerprint.edited)} log-probabilities",
            found=len(logprobs),
            next_step=_NEXT,
        )
    to_edited = _mean_distance(logprobs, fingerprint.edited)
    to_unedited = _mean_distance(logprobs, fingerprint.unedited)
    apart = _mean_distance(fingerprint.edited, fingerprint.unedited)
    can_tell = apart > _HIDDEN * tolerance
    is_unedited = can_tell and to_edited > _CLEARLY * to_unedited
    if is_unedited or not to_edited <= tolerance:  # a NaN is not close either
        raise EditLost(
            "The served model answers like the one without the edit."
            if is_unedited
            else "The served model answers neither like the edited model nor like its twin.",
            where=where,
            expected=f"log-probabilities within {tolerance:g} ({dtype}) of the edited model's",
            found=f"{to_edited:.3g} from the edited model, {to_unedited:.3g} from the unedited one",
            next_step=_NEXT,
        )
    alive = can_tell and to_unedited > _CLEARLY * to_edited
    verdict: Literal["alive", "cannot tell"] = "alive" if alive else "cannot tell"
    return FingerprintMatch(verdict, to_edited, to_unedited, apart, tolerance)


def _tolerance(dtype: str, where: str) -> float:
    if dtype not in TOLERANCES:
        raise ServingFailed(
            "The rounding error of this type is not known.",
            where=where,
            expected=", ".join(TOLERANCES),
            found=dtype,
            next_step="This is a fault of the deployment; please report it.",
        )
    return TOLERANCES[dtype]


def _mean_distance(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(abs(x - y) for x, y in zip(a, b, strict=True)) / len(a)


_NEXT = (
    "Do not serve it. Build the model again (`kawan-usaha edit` or `fuse`), and compare with "
    "`kawan-usaha inspect MODEL`; report this if it happens again."
)
