"""`kawan-usaha hub`."""

from pathlib import Path
from typing import Annotated

import typer
from annotated_types import Ge, Le

from flows.command_line.numbers import integer


def hub(
    port: Annotated[
        int, integer("The port of the Hub; 0 takes any free one.", Ge(0), Le(65535))
    ] = 8090,
    root: Annotated[
        Path | None, typer.Option(help="The directory of its data; by default that of this home.")
    ] = None,
) -> None:
    """Run a small Hub on this machine until Ctrl-C, to browse what the demo published.

    Point huggingface_hub at it with `export HF_ENDPOINT=http://127.0.0.1:8090`.

    Example: `kawan-usaha hub --port 8090`
    """
    from flows.actions.hub import serve_local

    serve_local(port, root)
