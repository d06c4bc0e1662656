"""`kawan-usaha download`."""

from flows.command_line.model_directory import Out, left_behind_note
from flows.command_line.output import AsJson, show
from flows.command_line.sources import Model, SignedBy, source_of


def download(model: Model, out: Out, signed_by: SignedBy = None, as_json: AsJson = False) -> None:
    """Download a model in one weight format, verify every file, resume after an interruption.

    With `--signed-by` its signature (`model.sig`) is downloaded and verified too.

    Example: `kawan-usaha download huggyllama/llama-13b@main llama-13b`
    """
    from flows.actions.download import download_to

    made = download_to(source_of(model, signed_by), out, label=f"download {model}")
    size = f"{out}: {len(made.files)} files, {made.size_bytes / 1e9:.3f} GB"
    result = {
        "out": out,
        "files": len(made.files),
        "size_bytes": made.size_bytes,
        "signed_by": made.signed_by,
        "left_behind": made.left_behind,
    }
    show(result, as_json=as_json, text=size + left_behind_note(made.left_behind))
