"""The proof that an edit is alive: made in a fresh process, kept as a value.

A process of its own, because in this one the classes of the edited model may be loaded already:
only a process that knows nothing shows what a user's process will see. It runs the code inside the
model directory. The invariant: `prove_edit` returns a proof in which every check passed, or raises.
"""

import importlib.metadata
import json
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from tasks.core.architecture.seen import Check
from tasks.core.errors import EditLost, KawanUsahaError
from tasks.core.home import PROJECT
from tasks.core.process import Cause, child_environment, run_child
from tasks.core.recipe import Edit
from tasks.core.weights.model_check import has_adapter

logger = logging.getLogger(__name__)

PROOF_TIMEOUT_S = 3600.0


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProofRequest(_Value):
    """What the fresh process is asked to prove."""

    model: Path
    edit: Edit
    unedited: Path | None
    memory_bytes: int | None


class LayerRow(_Value):
    """The activation of one layer, before and after the edit: its name and its module's class."""

    layer: int
    before: str
    after: str

    @property
    def after_marked(self) -> str:
        """What stands there now, in bold type where it is new."""
        return self.after if self.after == self.before else f"**{self.after}**"


class EditProof(_Value):
    """What a fresh process saw of an edited model.

    difference: the largest absolute difference between the edited and the unedited result: logits
    for the whole model, hidden states for layers alone. It may be 0: a warning then says why.
    probe_difference: the same of the edited modules alone, each on a probe on which its edit shows;
    None in proofs of earlier versions.
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
    checks: tuple[Check, ...]
    warnings: tuple[str, ...] = ()
    versions: dict[str, str]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def as_json(self) -> dict[str, JsonValue]:
        """Return the proof as plain JSON types, for a manifest."""
        plain: dict[str, JsonValue] = self.model_dump(mode="json")
        return plain

    def table(self) -> str:
        """Return before and after as Markdown: every layer's activation, RoPE, and the checks."""
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
                f"Seen in a fresh process on {self.seen}, {self.dtype}, {self.tokens} "
                f"tokens; largest difference to the unedited model: {self._differences()}.",
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
    put an adapter of that directory on it, the same weights are read by stock LLaMA. memory_bytes
    is what may be used, by default what the machine has available: a model that does not fit is
    proven on its edited layers alone, with their real weights. The file `log` gets what the process
    prints. Raises EditLost when a check fails or after timeout_s seconds, and what the fresh
    process raised.
    """
    request = ProofRequest(
        model=model.absolute(),  # the fresh process begins in another directory
        edit=edit,
        unedited=unedited.absolute() if unedited and not has_adapter(unedited) else None,
        memory_bytes=memory_bytes,
    )
    with tempfile.TemporaryDirectory(prefix="kawan-usaha-proof-") as scratch:
        proof = _in_fresh_process(request, Path(scratch), timeout_s, log)
    failed = [check for check in proof.checks if not check.passed]
    if failed:
        raise EditLost(
            "The edit is not alive in the model that was loaded again.",
            where=model,
            expected="; ".join(check.name for check in failed),
            found="; ".join(check.detail for check in failed),
            next_step=_NEXT,
        )
    for warning in proof.warnings:
        logger.warning("the edit is alive; %s", warning)
    return proof


def versions() -> dict[str, str]:
    """Return the versions of the libraries that compute."""
    return {name: importlib.metadata.version(name) for name in ("torch", "transformers")}


def _in_fresh_process(
    request: ProofRequest, scratch: Path, timeout_s: float, log: Path | None
) -> EditProof:
    asked, answered = scratch / "request.json", scratch / "proof.json"
    asked.write_text(request.model_dump_json())
    child = run_child(
        [sys.executable, "-m", "tasks.core.architecture.prove", str(asked), str(answered)],
        env=_environment(scratch),
        log=log,
        timeout_s=timeout_s,
    )
    if child.succeeded:
        return EditProof.model_validate_json(answered.read_bytes())
    if child.cause is Cause.OUT_OF_MEMORY and request.memory_bytes is None:
        logger.warning("no memory for the whole model: its edited layers are proven alone")
        layers_alone = request.model_copy(update={"memory_bytes": 0})
        return _in_fresh_process(layers_alone, scratch, timeout_s, log)
    if answered.exists():
        raise KawanUsahaError.from_dict(json.loads(answered.read_bytes())["error"])
    raise EditLost(
        "The edited model could not be loaded again for the proof.",
        where=request.model,
        found="\n".join([child.cause.value, *child.tail[-20:], *_whole_output(child.log)]),
        next_step=_NEXT,
    )


def _whole_output(log: Path | None) -> list[str]:
    return [f"The whole output: {log}"] if log else []


def _environment(scratch: Path) -> dict[str, str]:
    """Return an environment without a secret, in which only the directory's own code is found."""
    paths = [str(PROJECT), os.environ.get("PYTHONPATH", "")]
    return {
        **child_environment(os.environ),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "HF_MODULES_CACHE": str(scratch / "modules"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }


def _rope_text(parameters: dict[str, JsonValue]) -> str:
    factor = f" × {parameters['factor']}" if "factor" in parameters else ""
    return f"{parameters.get('rope_type', 'default')}{factor}"


_NEXT = "Nothing was published or served. Run the edit again; report this if it stays."
