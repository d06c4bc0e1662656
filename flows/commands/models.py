"""The commands that turn one model directory into another: no store, no Prefect, no recipe."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.numbers import number_of
from flows.commands.output import AS_JSON, NEW_DIRECTORY, bytes_bar, command_log, followed, show
from flows.commands.sources import MODEL_HELP, SIGNED_BY, in_use, local_model, source_of
from tasks.core.recipe import Dtype, RopeScalingEdit

if TYPE_CHECKING:
    from tasks.core.files.durable import FileDigest
    from tasks.core.hub.source_signature import SourceSignature

Model = Annotated[str, typer.Argument(help=MODEL_HELP)]
Out = Annotated[Path, NEW_DIRECTORY]
Json = Annotated[bool, AS_JSON]


def register(app: typer.Typer) -> None:
    """Add the commands to app."""
    for command in (download, merge, edit, inspect, fuse):
        app.command()(command)


def download(
    model: Model,
    out: Out,
    signed_by: Annotated[Path | None, SIGNED_BY] = None,
    as_json: Json = False,
) -> None:
    """Download a model: one weight format, every file checked, continued after a break.

    With `--signed-by` its signature (`model.sig`) comes with it.

    Example: `kawan-usaha download huggyllama/llama-13b@main llama-13b`
    """
    from tasks.core.files.durable import staged_directory, state_of
    from tasks.core.hub.client import endpoint
    from tasks.core.hub.download.local_copy import copy_directory
    from tasks.core.hub.download.model import download_model, resolve_model
    from tasks.core.hub.source_signature import SourceSignature
    from tasks.core.weights.model_check import check_model
    from tasks.core.weights.tokenizer_check import require_tokenizer

    source = source_of(model, signed_by)
    left: tuple[str, ...] = ()
    if source.directory is not None:
        left = _adapter_inside(source.directory)
        work = _work("download", inputs=[state_of(source.directory)])
        with (
            in_use(source.directory),
            staged_directory(out, work) as staging,
            bytes_bar(f"download {model}") as report,
        ):
            signature = SourceSignature.of(source, None)
            written = copy_directory(source.directory, staging, report)
            _take_signed(signature, written.files, staging)
    else:
        resolved = resolve_model(str(source.repo), source.revision)
        work = _work("download", inputs=[endpoint(), resolved.repo, resolved.commit])
        with staged_directory(out, work) as staging, bytes_bar(f"download {model}") as report:
            signature = SourceSignature.of(source, resolved.commit)
            if signature is not None:
                signature.require_announced(resolved)
            written = download_model(resolved, staging, on_progress=report)
            _take_signed(signature, written.files, staging)
            check_model(staging)
            require_tokenizer(staging)
    text = f"{out}: {len(written.files)} files, {written.size_bytes / 1e9:.3f} GB{_told(left)}"
    result = {
        "out": out,
        "files": len(written.files),
        "size_bytes": written.size_bytes,
        "signed_by": None if signature is None else signature.signed.key.fingerprint,
        "left_behind": left,
    }
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
    killed resumes with the shards that are whole.

    Example: `kawan-usaha merge huggyllama/llama-13b lmsys/vicuna-13b-delta-v1.1 merged`
    """
    from tasks.core.files.durable import staged_directory, state_of
    from tasks.core.weights.merge import merge_delta

    settings = _dtype(dtype)
    with local_model(base) as base_path, local_model(delta) as delta_path:
        paths = base_path, delta_path
        work = _work("merge", inputs=[state_of(path) for path in paths], settings=settings)
        with staged_directory(out, work) as staging, bytes_bar("merge") as report:
            written = merge_delta(*paths, staging, dtype=settings, on_progress=report)
        left = _adapter_inside(*paths)
    _show_written(out, written.files, as_json, left=left)


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
    factor: Annotated[
        float, number_of(RopeScalingEdit, "factor", "How many times longer it becomes.")
    ] = 2.0,
    as_json: Json = False,
) -> None:
    """Change the architecture so that the change travels with the model, and prove it.

    Weight files are shared with the source, not copied, where that is safe.

    Example: `kawan-usaha edit merged edited --activation gelu --layers -1`
    """
    from pydantic import ValidationError

    from tasks.core.architecture.edit import edit_model
    from tasks.core.architecture.fingerprint import put_fingerprint
    from tasks.core.architecture.proof.edit_proof import prove_edit
    from tasks.core.errors import UsageError
    from tasks.core.files.durable import staged_directory, state_of
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
    with ExitStack() as held:
        source = held.enter_context(local_model(model))
        work = _work("edit", inputs=[state_of(source)], settings=settings)
        staging = held.enter_context(staged_directory(out, work, resumes=False))
        held.enter_context(followed("edit"))
        written = edit_model(source, settings, staging)
        proof = prove_edit(staging, settings, unedited=source, log=command_log("edit"))
        put_fingerprint(staging, proof.fingerprint)
        own_bytes, shared_bytes = written.own_bytes, written.shared_bytes
    amounts = f"{own_bytes / 1e3:,.1f} kB written, {shared_bytes / 1e9:.3f} GB shared"
    left = _adapter_inside(source)
    result = {
        "out": out,
        "written_bytes": own_bytes,
        "proof": proof.as_json(),
        "left_behind": left,
    }
    show(result, as_json=as_json, text=f"{proof.table()}\n\n{out}: {amounts}{_told(left)}")


def inspect(model: Model, as_json: Json = False) -> None:
    """Show each layer's activation, shapes, type and parameters, and whether an edit is alive.

    Exit code 1 when the directory has problems, or its edit is lost.
    """
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
    if report.problems or report.edit == "lost":
        raise typer.Exit(1)


def fuse(model: Model, adapter: Path, out: Out, as_json: Json = False) -> None:
    """Add a PEFT LoRA adapter to the weights of a model, streamed.

    DoRA, PiSSA, OLoRA and adapters of experts, too. Equal to PEFT's `merge_and_unload` within its
    roundings; the model keeps its own code and edit, and takes over a tokenizer or chat template
    that was saved with the adapter, and the conversation template that the adapter records.

    Example: `kawan-usaha fuse edited adapter tuned`
    """
    from tasks.core.architecture.fingerprint import renew_fingerprint
    from tasks.core.conversation.template_files import with_template_of
    from tasks.core.files.durable import staged_directory, state_of
    from tasks.core.weights.fuse import fuse_adapter

    with ExitStack() as held:
        source = held.enter_context(local_model(model))
        held.enter_context(in_use(adapter))
        work = _work("fuse", inputs=[state_of(source), state_of(adapter)])
        staging = held.enter_context(staged_directory(out, work))
        report = held.enter_context(bytes_bar("fuse"))
        written = fuse_adapter(source, adapter, staging, on_progress=report)
        files = {
            **written.files,
            **with_template_of(adapter, staging),
            **renew_fingerprint(staging, log=command_log("fuse")),
        }
    left = () if adapter.resolve() == source.resolve() else _adapter_inside(source)
    _show_written(out, files, as_json, left=left)


def _work(command: str, *, inputs: object, settings: object = None) -> dict[str, object]:
    """Return what a command's result depends on, which its staging directory is bound to."""
    from tasks.core.home import code_version

    code = code_version()
    return {"command": command, "inputs": inputs, "settings": settings, "code": code}


def _take_signed(
    signature: "SourceSignature | None", files: "Mapping[str, FileDigest]", staging: Path
) -> None:
    """Leave the signature beside what was taken, which is what it covers, if one is asked for."""
    from tasks.core.signing import SIGNATURE

    if signature is not None:
        signature.require(files)
        signature.keep(staging / SIGNATURE)


def _adapter_inside(*models: Path) -> tuple[str, ...]:
    """Return the files of an adapter that lies beside a model's, and is not part of it."""
    from tasks.core.weights.companion_kinds import left_behind
    from tasks.core.weights.companions import file_names

    return tuple(name for model in models for name in left_behind(file_names(model)))


def _told(left: tuple[str, ...]) -> str:
    if not left:
        return ""
    return (
        f"\nleft behind: {', '.join(left)}: an adapter inside the model's directory. "
        "`kawan-usaha fuse MODEL ADAPTER OUT` makes one model of both."
    )


def _show_written(out: Path, files: object, as_json: bool, *, left: tuple[str, ...]) -> None:
    digests = dict(files)  # type: ignore[call-overload]
    size = sum(file.size_bytes for file in digests.values())
    plain = {name: {"size_bytes": f.size_bytes, "sha256": f.sha256} for name, f in digests.items()}
    text = f"{out}: {len(digests)} files, {size / 1e9:.3f} GB{_told(left)}"
    show({"out": out, "files": plain, "left_behind": left}, as_json=as_json, text=text)


def _layer(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text


def _dtype(text: str) -> Dtype:
    from typing import get_args

    from tasks.core.errors import UsageError

    for dtype in get_args(Dtype):
        if dtype == text:
            return dtype  # type: ignore[no-any-return]
    raise UsageError("No such weight type.", expected=", ".join(get_args(Dtype)), found=text)
