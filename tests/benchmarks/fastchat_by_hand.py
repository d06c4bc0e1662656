"""FastChat as its README starts it, controller, worker and API server, for comparison.

    python -m tests.benchmarks.fastchat_by_hand controller|worker|api ARGUMENTS

Two of its faults keep it from starting or from streaming under today's libraries, and are remedied
here as they would have to be by hand; nothing else is changed.
"""

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tasks.core.model.config import context_tokens
from tasks.core.process.ports import free_port


@contextmanager
def by_hand(model: Path, name: str, template: str, log: Path, dtype: str) -> Iterator[str]:
    """Yield the address of its API server, once the three processes are started."""
    controller, worker, api = (free_port() for _ in range(3))
    at = "http://127.0.0.1"
    commands = (
        ("controller", "--port", str(controller)),
        (
            *("worker", "--port", str(worker), "--worker-address", f"{at}:{worker}"),
            *("--controller-address", f"{at}:{controller}", "--model-path", str(model)),
            *("--model-names", name, "--conv-template", template),
            *("--device", "cpu", "--dtype", dtype),
        ),
        ("api", "--port", str(api), "--controller-address", f"{at}:{controller}"),
    )
    with log.open("wb") as output, ExitStack() as running:
        for command in commands:
            argv = [sys.executable, "-m", __spec__.name if __spec__ else __name__, *command]
            env = {**os.environ, "LOGDIR": ""}  # or it logs to where this is run
            child = subprocess.Popen(argv, stdout=output, stderr=output, env=env)
            running.callback(child.wait)
            running.callback(child.kill)  # SIGTERM does not end one that generates
        yield f"{at}:{api}"


def main() -> None:
    """Run the part that the first argument names."""
    modules = {
        "controller": "fastchat.serve.controller",
        "worker": "fastchat.serve.model_worker",
        "api": "fastchat.serve.openai_api_server",
    }
    import fastchat.utils
    from fastchat.protocol import openai_api_protocol as protocol

    fastchat.utils.get_context_length = lambda config: context_tokens(config.to_dict()) or 2048
    protocol.ChatCompletionStreamResponse.json = _json
    runpy.run_module(modules[sys.argv.pop(1)], run_name="__main__", alter_sys=True)


def _json(message: Any, *, ensure_ascii: bool = True, **options: bool) -> str:
    return json.dumps(message.model_dump(mode="json", **options), ensure_ascii=ensure_ascii)


if __name__ == "__main__":
    main()
