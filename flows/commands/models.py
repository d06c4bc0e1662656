"""The commands that turn one model directory into another: no store, no Prefect, no recipe."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.output import AS_JSON, bytes_bar, command_log, followed, show
from flows.commands.sources import MODEL_HELP, in_use, local_model, source_of
from tasks.core.recipe import Dtype

Model = Annotated[str, typer.Argument(help=MODEL_HELP)]
Out = Annotated[Path, typer.Argument(help="The new directory. It must not exist yet.")]
Json = Annotated[bool, AS_JSON]


def register(app: typer.Typer) -> None:
    """Add the commands to app."""
    for command in (download, merge, edit, inspect, fuse):
        app.command()(command)


def download(model: Model, out: Out, as_json: Json = False) -> None:
    """Download a model: one weight format, every file checked, continued after a break.

    Example: `kawan-usaha download huggyllama/llama-13b@main llama-13b`
    """
    from tasks.core.files import staged_directory
    from tasks.core.hub.download import download as receive
    from tasks.core.hub.download import resolve
    from tasks.core.hub.local_copy import copy_directory

    source = source_of(model)
    with staged_directory(out) as staging, bytes_bar(f"download {model}") as report:
        if source.directory is not None:
            with in_use(source.directory):
                written = copy_directory(source.directory, staging, report)
        else:
            written = receive(resolve(str(source.repo), source.revision), staging, report=report)
    text = f"{out}: {len(written.files)} files, {written.size_bytes / 1e9:.3f} GB"
    result = {"out": out, "files": len(written.files), "size_bytes": written.size_bytes}
    show(result, as_json=as_json, text=text)


def merge(
    base: Model,
    delta: Model,
    out: Out,
    dtype: Annotated[str, typer.Option(help="Weight type: float16, bfloat16 or float32.")] = (
        "float16"
    ),
    as_json: Json = False,
) -> None:
    """Add a weight delta to a base model, streamed: a better `fastchat.model.apply_delta`.

    The result is equal to FastChat's to the bit, in well under 1 GB of memory. A merge that was
    killed goes on with the shards that are whole.

    Example: `kawan-usaha merge huggyllama/llama-13b lmsys/vicuna-13b-delta-v1.1 merged`
    """
    from tasks.core.files import staged_directory
    from tasks.core.weights.merge import merge as add

    kind = _dtype(dtype)
    with (
        local_model(base) as base_path,
        local_model(delta) as delta_path,
        staged_directory(out) as staging,
        bytes_bar("merge") as report,
    ):
        written = add(base_path, delta_path, staging, dtype=kind, report=report)
    _show_written(out, written.files, as_json)


def edit(
    model: Model,
    out: Out,
    *,
    activation: Annotated[
        str | None, typer.Option(help="The new activation, such as gelu.")
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(help='Which layers: an index, a slice such as "0:4" or "-4:", or "all".'),
    ] = None,
    rope_scaling: Annotated[
        str | None, typer.Option(help="linear, dynamic or yarn: lengthen the context.")
    ] = None,
    factor: Annotated[float, typer.Option(help="How many times longer it becomes.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Change the architecture so that the change travels with the model, and prove it.

    Weight files are shared with the source, not copied, where that is safe.

    Example: `kawan-usaha edit merged edited --activation gelu --layers -1`
    """
    from pydantic import ValidationError

    from tasks.core.architecture.edit import edit_model
    from tasks.core.architecture.proof import prove_edit
    from tasks.core.errors import UsageError
    from tasks.core.files import staged_directory
    from tasks.core.recipe import Edit

    wanted = {
        "activations": [{"layers": [_layer(text) for text in layers or ["-1"]]}]
        if activation or layers
        else [],
        "rope_scaling": {"rope_type": rope_scaling, "factor": factor} if rope_scaling else None,
    }
    if activation:
        wanted["activations"][0]["activation"] = activation  # type: ignore[index]
    try:
        settings = Edit.model_validate(wanted)
    except ValidationError as error:
        found = "; ".join(problem["msg"] for problem in error.errors())
        raise UsageError(
            "This is no edit.", found=found, next_step="See `kawan-usaha edit --help`."
        ) from error
    with local_model(model) as source, staged_directory(out) as staging, followed("edit"):
        written = edit_model(source, settings, staging)
        proof = prove_edit(staging, settings, unedited=source, log=command_log("edit"))
        own_bytes, shared_bytes = written.own_bytes, written.shared_bytes
    amounts = f"{own_bytes / 1e3:,.1f} kB written, {shared_bytes / 1e9:.3f} GB shared"
    result = {"out": out, "written_bytes": own_bytes, "proof": proof.as_json()}
    show(result, as_json=as_json, text=f"{proof.table()}\n\n{out}: {amounts}")


def inspect(model: Model, as_json: Json = False) -> None:
    """Show each layer's activation, shapes, type and parameters, and whether an edit is alive."""
    from tasks.core.architecture.inspection import inspect_model

    with local_model(model) as path:
        report = inspect_model(path)
    kind = f"{report.model_type}, {report.model_class}"
    sizes = f"{report.parameters / 1e6:,.1f}M parameters, {report.weight_bytes / 1e9:.3f} GB"
    lines = [
        f"{kind}: {sizes}, {', '.join(report.dtypes)}, context {report.context_tokens} tokens",
        f"edit: {report.edit} ({report.reason})",
        f"RoPE: {report.rope}",
        *(
            f"layer {layer.layer:>3}  {layer.computes:<10} {layer.module:<16} "
            f"{'x'.join(map(str, layer.mlp_shape)):<12} {', '.join(layer.dtypes)} "
            f"{layer.parameters / 1e6:>9,.2f}M"
            for layer in report.layers
        ),
        *(f"problem: {problem}" for problem in report.problems),
    ]
    show(report, as_json=as_json, text="\n".join(lines))


def fuse(model: Model, adapter: Path, out: Out, as_json: Json = False) -> None:
    """Add a PEFT LoRA adapter to the weights of a model, streamed.

    Equal to PEFT's `merge_and_unload` within one rounding; the model keeps its own code and edit.

    Example: `kawan-usaha fuse edited adapter tuned`
    """
    from tasks.core.files import staged_directory
    from tasks.core.weights.fuse import fuse as add

    with (
        local_model(model) as source,
        in_use(adapter),
        staged_directory(out) as staging,
        bytes_bar("fuse") as report,
    ):
        written = add(source, adapter, staging, report=report)
    _show_written(out, written.files, as_json)


def _show_written(out: Path, files: object, as_json: bool) -> None:
    digests = dict(files)  # type: ignore[call-overload]
    size = sum(file.size_bytes for file in digests.values())
    plain = {name: {"size_bytes": f.size_bytes, "sha256": f.sha256} for name, f in digests.items()}
    text = f"{out}: {len(digests)} files, {size / 1e9:.3f} GB"
    show({"out": out, "files": plain}, as_json=as_json, text=text)


def _layer(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text


def _dtype(text: str) -> Dtype:
    from typing import get_args

    from tasks.core.errors import UsageError

    for dtype in get_args(Dtype):
        if dtype == text:
            return dtype  # type: ignore[no-any-return]
    raise UsageError("No such weight type.", expected=", ".join(get_args(Dtype)), found=text)
