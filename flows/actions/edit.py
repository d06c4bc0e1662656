"""Edit the architecture of a model, into a new directory, and prove the edit."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from flows.actions.local_models import local_model
from flows.actions.model_directories import adapter_files, work_identity
from flows.command_line.output import command_log, showing_progress
from tasks.core.architecture.edit import edit_model
from tasks.core.architecture.proof.edit_proof import EditProof, prove_edit
from tasks.core.files.digests import state_of
from tasks.core.files.output import staged_directory
from tasks.core.model.edit_fingerprint import put_fingerprint
from tasks.core.recipe import Edit


@dataclass(frozen=True)
class EditedModel:
    """An edited model: the proof of its edit, the bytes written, and those shared by hard links."""

    proof: EditProof
    written_bytes: int
    shared_bytes: int
    left_behind: tuple[str, ...]


def edit_to(model: str, out: Path, settings: Edit) -> EditedModel:
    """Write the edited model to a new directory. Raises if the edit cannot be proven."""
    with ExitStack() as stack:
        source = stack.enter_context(local_model(model))
        work = work_identity("edit", inputs=[state_of(source)], settings=settings)
        staging = stack.enter_context(staged_directory(out, work, resumes=False))
        stack.enter_context(showing_progress("edit"))
        written = edit_model(source, settings, staging)
        proof = prove_edit(staging, settings, unedited=source, log=command_log("edit"))
        put_fingerprint(staging, proof.fingerprint)
        return EditedModel(proof, written.own_bytes, written.shared_bytes, adapter_files(source))
