"""FastChat's child entry point: `python -m tasks.core.serving.launcher ROLE ARGUMENTS`.

ROLE is controller, worker or api; the arguments are FastChat's own. FastChat 0.2.36 is its last
release, and under today's libraries it has small faults. This is the only module of the project
that assigns to another library's attributes, and only inside FastChat's own child processes: each
remedy has its cause beside it, and a test (test_launcher.py) that fails once it is not needed.
"""

import json
import logging
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tasks.core.devices import serving
from tasks.core.model_config import context_tokens

logger = logging.getLogger(__name__)

_FASTCHATS_DEFAULT_TOKENS = 2048


def main() -> None:
    """Run the part of FastChat that the first argument names."""
    roles = {"controller": run_controller, "worker": run_worker, "api": run_api}
    if len(sys.argv) < 2 or sys.argv[1] not in roles:
        sys.exit(f"usage: python -m {__spec__.name} {'|'.join(roles)} ARGUMENTS")
    # A log line that cannot be written is dropped. Otherwise logging writes about it to stderr,
    # which FastChat has turned into a logger: without supervisord at the other end of the pipe
    # that goes on for ever, and every request fails.
    logging.raiseExceptions = False
    role = sys.argv.pop(1)
    roles[role]()


def run_controller() -> None:
    """Run FastChat's controller, which needs no remedy."""
    runpy.run_module("fastchat.serve.controller", run_name="__main__", alter_sys=True)


def run_api() -> None:
    """Run FastChat's OpenAI-compatible server."""
    restore_stream_encoding()
    runpy.run_module("fastchat.serve.openai_api_server", run_name="__main__", alter_sys=True)


def run_worker() -> None:
    """Run FastChat's model worker, which serves after the proof in `worker.serve_proven`.

    It holds its devices' locks itself, so that they are free when it ends, however it ends.
    """
    restore_context_length()
    from fastchat.serve import model_worker

    from tasks.core.serving.worker import serve_proven

    with serving(f"deployment {Path.cwd().name}"):
        # Registered by serve_proven, after the proof.
        sys.argv.append("--no-register")
        arguments, worker = model_worker.create_model_worker()
        restore_batch_encoding(worker)
        contain_errors(worker)
        serve_proven(model_worker.app, worker, host=arguments.host, port=arguments.port)


# --- remedies ------------------------------------------------------------------------------


def restore_context_length() -> None:
    """Let the worker find the context length of any model.

    Cause: `fastchat.utils.get_context_length` reads `config.rope_scaling["factor"]` whenever
    `rope_scaling` is set, and transformers 5 always sets it: KeyError while the worker starts.
    Must run before `fastchat.serve` is imported, which takes the function by name.
    """
    import fastchat.utils

    fastchat.utils.get_context_length = context_length


def context_length(config: Any) -> int:
    """Return how many tokens a model of this configuration can attend to."""
    return context_tokens(config.to_dict()) or _FASTCHATS_DEFAULT_TOKENS


def restore_stream_encoding() -> None:
    """Let the OpenAI server stream.

    Cause: it calls `.json(ensure_ascii=False)` on these models, and pydantic 2 refuses arguments
    of json.dumps there: TypeError on the first streamed token.
    """
    from fastchat.protocol import openai_api_protocol as protocol

    protocol.ChatCompletionStreamResponse.json = stream_json
    protocol.CompletionStreamResponse.json = stream_json


def stream_json(
    message: Any,
    *,
    exclude_unset: bool = False,
    exclude_none: bool = False,
    ensure_ascii: bool = True,
) -> str:
    """Return a pydantic 2 model as pydantic 1's `.json` gave it."""
    fields = message.model_dump(mode="json", exclude_unset=exclude_unset, exclude_none=exclude_none)
    return json.dumps(fields, ensure_ascii=ensure_ascii)


def restore_batch_encoding(worker: Any) -> None:
    """Let the worker embed.

    Cause: `ModelWorker.get_embeddings` calls `tokenizer.batch_encode_plus`, which transformers 5
    has removed; calling the tokenizer itself does the same.
    """
    worker.tokenizer.batch_encode_plus = worker.tokenizer.__call__


def contain_errors(worker: Any) -> None:
    """Let the worker survive requests that make it raise.

    Cause: FastChat's routes take one of five places before they generate and give it back after,
    not in a `finally`, and the worker turns only ValueError, RuntimeError and lack of memory into
    answers. A request with `"temperature": null` raises TypeError: after five of them the worker
    accepts connections and answers nobody, for ever.
    """
    worker.generate_stream_gate = _contained_stream(worker.generate_stream_gate)
    worker.get_embeddings = _contained(worker.get_embeddings)


def _contained_stream(
    generate: Callable[[dict[str, Any]], Iterator[bytes]],
) -> Callable[[dict[str, Any]], Iterator[bytes]]:
    def contained(params: dict[str, Any]) -> Iterator[bytes]:
        try:
            yield from generate(params)
        except Exception as error:
            logger.exception("a request failed")
            yield json.dumps(_failure(error)).encode() + b"\0"

    return contained


def _contained(
    answer: Callable[[dict[str, Any]], dict[str, Any]],
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def contained(params: dict[str, Any]) -> dict[str, Any]:
        try:
            return answer(params)
        except Exception as error:
            logger.exception("a request failed")
            return _failure(error)

    return contained


def _failure(error: Exception) -> dict[str, Any]:
    from fastchat.constants import ErrorCode

    return {
        "text": f"{type(error).__name__}: {error}",
        "error_code": int(ErrorCode.INTERNAL_ERROR),
    }


if __name__ == "__main__":
    main()
