"""`kawan-usaha merge`."""

from typing import Annotated, get_args

import typer

from flows.command_line.model_directory import Out, show_written
from flows.command_line.output import AsJson
from flows.command_line.sources import Model
from tasks.core.errors import UsageError
from tasks.core.recipe import Dtype


def merge(
    base: Model,
    delta: Model,
    out: Out,
    dtype: Annotated[str, typer.Option(help="Weight type: float16, bfloat16 or float32.")] = (
        "float16"
    ),
    as_json: AsJson = False,
) -> None:
    """Add a weight delta to a base model, streamed: a better `fastchat.model.apply_delta`.

    The result is bit for bit FastChat's, in well under 1 GB of memory. A killed merge resumes with
    its finished shards.

    Example: `kawan-usaha merge huggyllama/llama-13b lmsys/vicuna-13b-delta-v1.1 merged`
    """
    from flows.actions.merge import merge_to

    show_written(out, merge_to(base, delta, out, _dtype(dtype)), as_json=as_json)


def _dtype(text: str) -> Dtype:
    for dtype in get_args(Dtype):
        if dtype == text:
            return dtype  # type: ignore[no-any-return]
    raise UsageError("No such weight type.", expected=", ".join(get_args(Dtype)), found=text)
