"""Download a model into a directory, or copy the model of another directory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.actions.local_models import in_use
from flows.actions.model_directories import adapter_files, work_identity
from flows.command_line.model_directory import WrittenModel
from flows.command_line.output import bytes_bar
from tasks.core.files.digests import FileDigest, state_of
from tasks.core.files.output import staged_directory
from tasks.core.hub.client import endpoint
from tasks.core.hub.download.local_copy import copy_directory
from tasks.core.hub.download.model import download_model, resolve_model
from tasks.core.hub.source_signature import SourceSignature
from tasks.core.recipe import Source
from tasks.core.signing import SIGNATURE
from tasks.core.weights.model_check import check_model
from tasks.core.weights.tokenizer_check import require_tokenizer


@dataclass(frozen=True)
class Download(WrittenModel):
    """A downloaded model, with the fingerprint of the key that signed it, if one was asked for."""

    signed_by: str | None


def download_to(source: Source, out: Path, *, label: str) -> Download:
    """Write the model of a source to a new directory; a download resumes where it stopped."""
    if source.directory is not None:
        return _copied(source, source.directory, out, label)
    resolved = resolve_model(str(source.repo), source.revision)
    work = work_identity("download", inputs=[endpoint(), resolved.repo, resolved.commit])
    with staged_directory(out, work) as staging, bytes_bar(label) as report:
        signature = SourceSignature.of(source, resolved.commit)
        if signature is not None:
            signature.require_announced(resolved)
        written = download_model(resolved, staging, on_progress=report)
        signed_by = _require_signature(signature, written.files, staging)
        check_model(staging)
        require_tokenizer(staging)
    return Download(written.files, (), signed_by)


def _copied(source: Source, directory: Path, out: Path, label: str) -> Download:
    left_behind = adapter_files(directory)
    work = work_identity("download", inputs=[state_of(directory)])
    with (
        in_use(directory),
        staged_directory(out, work) as staging,
        bytes_bar(label) as report,
    ):
        signature = SourceSignature.of(source, None)
        written = copy_directory(directory, staging, report)
        signed_by = _require_signature(signature, written.files, staging)
    return Download(written.files, left_behind, signed_by)


def _require_signature(
    signature: SourceSignature | None, files: Mapping[str, FileDigest], staging: Path
) -> str | None:
    """Verify the files against the signature, keep it beside them, and return whose it is."""
    if signature is None:
        return None
    signature.require(files)
    signature.keep(staging / SIGNATURE)
    return signature.signed.key.fingerprint
