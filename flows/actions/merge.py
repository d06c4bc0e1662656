"""Merge a delta into a base model, from two directories or repositories into a new directory."""

from pathlib import Path

from flows.actions.local_models import local_model
from flows.actions.model_directories import adapter_files, work_identity
from flows.command_line.model_directory import WrittenModel
from flows.command_line.output import bytes_bar
from tasks.core.files.digests import state_of
from tasks.core.files.output import staged_directory
from tasks.core.recipe import Dtype
from tasks.core.weights.merge import merge_delta


def merge_to(base: str, delta: str, out: Path, dtype: Dtype) -> WrittenModel:
    """Write base + delta to a new directory; a killed merge resumes with its finished shards."""
    with local_model(base) as base_path, local_model(delta) as delta_path:
        paths = base_path, delta_path
        work = work_identity("merge", inputs=[state_of(path) for path in paths], settings=dtype)
        with staged_directory(out, work) as staging, bytes_bar("merge") as report:
            written = merge_delta(*paths, staging, dtype=dtype, on_progress=report)
        return WrittenModel(written.files, adapter_files(*paths))
