"""Run the embedded Hub in the foreground."""

from pathlib import Path

import typer

from tasks.core.demo.hub.server import serve_hub
from tasks.core.home import home
from tasks.core.process.ports import free_port


def serve_local(port: int, root: Path | None) -> None:
    """Print how clients find the Hub, and serve it until Ctrl-C; port 0 takes any free one."""
    port = port or free_port()
    typer.echo(f"export HF_ENDPOINT=http://127.0.0.1:{port} HF_HUB_DISABLE_XET=1", err=True)
    serve_hub(root or home() / "hub", host="127.0.0.1", port=port, ready_file=None)
