"""Fuse a LoRA adapter into a model, into a new directory."""

from contextlib import ExitStack
from pathlib import Path

from flows.actions.local_models import in_use, local_model
from flows.actions.model_directories import adapter_files, work_identity
from flows.command_line.model_directory import WrittenModel
from flows.command_line.output import bytes_bar, command_log
from tasks.core.architecture.renew_edit_fingerprint import renew_fingerprint
from tasks.core.conversation.template.files import with_template_of
from tasks.core.files.digests import state_of
from tasks.core.files.output import staged_directory
from tasks.core.weights.fuse import fuse_adapter


def fuse_to(model: str, adapter: Path, out: Path) -> WrittenModel:
    """Write the model with the adapter's weights added to a new directory."""
    with ExitStack() as stack:
        source = stack.enter_context(local_model(model))
        stack.enter_context(in_use(adapter))
        work = work_identity("fuse", inputs=[state_of(source), state_of(adapter)])
        staging = stack.enter_context(staged_directory(out, work))
        report = stack.enter_context(bytes_bar("fuse"))
        written = fuse_adapter(source, adapter, staging, on_progress=report)
        files = {
            **written.files,
            **with_template_of(adapter, staging),
            **renew_fingerprint(staging, log=command_log("fuse")),
        }
    left_behind = () if adapter.resolve() == source.resolve() else adapter_files(source)
    return WrittenModel(files, left_behind)
