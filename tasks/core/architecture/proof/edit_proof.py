"""The proof that an edit is alive: made in a fresh process, kept as a value.

The invariant: `prove_edit` returns a proof in which every check passed, or raises.
"""

import logging
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from tasks.core.architecture.proof.fresh_process import NEXT_STEP, ask_fresh_process
from tasks.core.architecture.proof.observation import EditCheck
from tasks.core.errors import EditLost, SystemRefused
from tasks.core.model.edit_fingerprint import EditFingerprint
from tasks.core.process import Cause
from tasks.core.process.answer_file import read_answer
from tasks.core.recipe import Edit
from tasks.core.weights.model_check import has_adapter

logger = logging.getLogger(__name__)

PROOF_TIMEOUT_S = 3600.0


class _ProofRecord(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProofRequest(_ProofRecord):
    """What the fresh process has to prove."""

    model: Path
    edit: Edit
    unedited: Path | None
    memory_bytes: int | None


class LayerRow(_ProofRecord):
    """The activation of one layer, before and after the edit: its name and its module's class."""

    layer: int
    before: str
    after: str

    @property
    def after_marked(self) -> str:
        """The activation after the edit, in bold type where it is new."""
        return self.after if self.after == self.before else f"**{self.after}**"


class EditProof(_ProofRecord):
    """What a fresh process observed of an edited model.

    difference: the largest absolute difference between the edited and the unedited result: logits
    for the whole model, hidden states for layers alone. It may be 0: a warning then says why.
    probe_difference: the same for the edited modules alone, each on a probe that makes its edit
    visible; None in proofs of earlier versions. fingerprint: the whole model's answer to the prompt
    at the start of its context; None where layers alone were observed.
    """

    seen: Literal["the whole model", "the edited layers alone"]
    dtype: str
    prompt: str
    tokens: int
    layers: tuple[LayerRow, ...]
    context_tokens_before: int
    context_tokens_after: int
    rope_before: dict[str, JsonValue]
    rope_after: dict[str, JsonValue]
    difference: float
    probe_difference: float | None = None
    checks: tuple[EditCheck, ...]
    warnings: tuple[str, ...] = ()
    versions: dict[str, str]
    fingerprint: EditFingerprint | None = None

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def as_json(self) -> dict[str, JsonValue]:
        """Return the proof as plain JSON types, for a manifest."""
        plain: dict[str, JsonValue] = self.model_dump(mode="json")
        return plain

    def table(self) -> str:
        """Return each layer's activation and RoPE before and after, and the checks, as Markdown."""
        rows = [f"| {row.layer} | {row.before} | {row.after_marked} |" for row in self.layers]
        rope = [_rope_text(self.rope_before), _rope_text(self.rope_after)]
        context = [self.context_tokens_before, self.context_tokens_after]
        return "\n".join(
            [
                "| layer | before | after |",
                "|---|---|---|",
                *rows,
                f"| RoPE | {rope[0]} | {rope[1]} |",
                f"| context | {context[0]} tokens | {context[1]} tokens |",
                "",
                f"Observed in a fresh process on {self.seen}, in {self.dtype}, with {self.tokens} "
                f"tokens; largest difference from the unedited model: {self._differences()}.",
                "",
                *(f"- {'✓' if c.passed else '✗'} {c.name} ({c.detail})" for c in self.checks),
                *(f"- ! {warning}" for warning in self.warnings),
            ]
        )

    def _differences(self) -> str:
        what = "logits" if self.seen == "the whole model" else "hidden states"
        found = f"{what} {self.difference:.3g}"
        if self.probe_difference is None:
            return found
        return f"{found}, the edited modules on a probe {self.probe_difference:.3g}"


def prove_edit(
    model: Path,
    edit: Edit,
    *,
    unedited: Path | None = None,
    memory_bytes: int | None = None,
    timeout_s: float = PROOF_TIMEOUT_S,
    log: Path | None = None,
) -> EditProof:
    """Return the proof that `edit` is alive in the model directory `model`.

    unedited is the directory that the model was edited from; without it, or where a loader would
    apply an adapter that lies in it, stock LLaMA reads the edited model's weights. memory_bytes is
    what may be used, by default what is available: a model that does not fit is proven on its
    edited layers alone, with their real weights. The process's output goes to the file `log`.
    Raises EditLost when a check fails or after timeout_s seconds, and what the process raised.
    """
    request = ProofRequest(
        model=model.absolute(),  # the fresh process has another working directory
        edit=edit,
        unedited=unedited.absolute() if unedited and not has_adapter(unedited) else None,
        memory_bytes=memory_bytes,
    )
    proof = _in_fresh_process(request, timeout_s, log)
    failed = [check for check in proof.checks if not check.passed]
    if failed:
        raise EditLost(
            "The edit is not alive in the model that was loaded again.",
            where=model,
            expected="; ".join(check.name for check in failed),
            found="; ".join(check.detail for check in failed),
            next_step=NEXT_STEP,
        )
    for warning in proof.warnings:
        logger.warning("the edit is alive; %s", warning)
    return proof


def _in_fresh_process(request: ProofRequest, timeout_s: float, log: Path | None) -> EditProof:
    module = "tasks.core.architecture.proof.entry"
    reply = ask_fresh_process(module, request, model=request.model, timeout_s=timeout_s, log=log)
    if reply is not None:
        return read_answer(reply, EditProof, error=EditLost)
    if request.memory_bytes is None:
        logger.warning(
            "the whole model does not fit into memory: only its edited layers are proven"
        )
        layers_alone = request.model_copy(update={"memory_bytes": 0})
        return _in_fresh_process(layers_alone, timeout_s, log)
    raise SystemRefused(
        "There is too little memory to prove the edit, even on the edited layers alone.",
        where=request.model,
        found=f"{Cause.OUT_OF_MEMORY.value}{f'; full output: {log}' if log else ''}",
        next_step="Stop other programs, or give the machine (or the container) more memory; then "
        "run again.",
    )


def _rope_text(parameters: dict[str, JsonValue]) -> str:
    factor = f" × {parameters['factor']}" if "factor" in parameters else ""
    return f"{parameters.get('rope_type', 'default')}{factor}"
