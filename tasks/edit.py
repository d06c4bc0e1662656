"""Edit: the same weights in a changed architecture, proven in a fresh process."""

from tasks.core.architecture.proof.edit_proof import EditProof, prove_edit
from tasks.core.conversation.template.files import with_chat_template
from tasks.core.keys import stage_key
from tasks.core.model.edit_fingerprint import put_fingerprint
from tasks.core.recipe import Edit
from tasks.core.store import Staging
from tasks.core.store.manifest import read_manifest
from tasks.outbox import show_markdown
from tasks.progress import output_log
from tasks.runtime import build_stage, stage_task
from tasks.stage_result import StageResult

VERSION = 4


def _name(settings: Edit, **_: object) -> str:
    return str(settings)


@stage_task("edit", _name)
def edit(model: StageResult, settings: Edit, template: str) -> StageResult:
    """Write the edited model around the shared weight files, and prove that the edit is alive.

    Its fingerprint is stored with it, by which any server can be checked for the edit.
    """
    params = {**settings.model_dump(mode="json"), "template": template}
    inputs = {"model": model.digest}

    def write(staging: Staging) -> None:
        from tasks.core.architecture.edit import edit_model  # needs torch

        written = edit_model(model.path, settings, staging.path)
        manifest = read_manifest(model.path)
        if manifest is not None:
            staging.record({f.name: manifest.files[f.source.name] for f in written.shared})
        staging.record(with_chat_template(staging.path, template))
        log = output_log("edit")
        proof = prove_edit(staging.path, settings, unedited=model.path, log=log)
        staging.record(put_fingerprint(staging.path, proof.fingerprint))
        staging.note(proof=proof.as_json(), written_bytes=written.own_bytes)

    key = stage_key("edit", VERSION, params, inputs)
    result = build_stage(key, write, params, inputs, reads=(model,))
    proof = EditProof.model_validate(result.facts["proof"])
    show_markdown(proof.table(), key="edit", description="The edit, before and after")
    return result
