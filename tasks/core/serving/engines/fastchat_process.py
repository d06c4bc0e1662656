"""FastChat's process: its ModelWorker loads the model, its generate_stream makes the tokens.

FastChat 0.2.36 is its last release. This is the only module of the project that assigns to another
library's attributes, and only in FastChat's own process. Each remedy has its cause beside it, and a
test that fails once it is no longer needed. FastChat's controller and API server, and its worker's
routes, queue and embeddings, are not used, so their faults need no remedy.
"""

from typing import Any

import torch

from tasks.core.model.config import context_tokens
from tasks.core.process.quick_start import collector_at_rest
from tasks.core.serving.engines.loaded import LoadedModel, precision_of
from tasks.core.serving.engines.process import run_engine
from tasks.core.serving.engines.process_arguments import EngineArguments
from tasks.core.serving.engines.rotary import restore_rotary_precision

_DEFAULT_TOKENS = 2048


def load(arguments: EngineArguments) -> LoadedModel:
    """Return the model as FastChat loads it."""
    restore_context_length()  # before the imports below, which load fastchat.serve
    with collector_at_rest():
        from fastchat.serve.model_worker import ModelWorker

        from tasks.core.serving.engines.fastchat_generator import FastChatGenerator

    worker = ModelWorker(
        controller_addr="",
        worker_addr="",
        worker_id=arguments.model_name,
        model_path=arguments.model,
        model_names=[arguments.model_name],
        limit_worker_concurrency=1,
        no_register=True,
        device=arguments.device,
        num_gpus=arguments.gpus,
        max_gpu_memory=None,
        # Without it FastChat asks Intel's extension of torch what a CPU computes in.
        dtype=None if arguments.dtype is None else getattr(torch, arguments.dtype),
        load_8bit=arguments.load_8bit,
        # Without it FastChat guesses from the path, and ends at `one_shot`.
        conv_template=arguments.template,
    )
    restore_rotary_precision(worker.model)
    return LoadedModel(
        model=worker.model,
        tokenizer=worker.tokenizer,
        template=worker.conv.name,
        precision=precision_of(worker.model, load_8bit=arguments.load_8bit),
        generator=lambda: FastChatGenerator(worker.model, worker.tokenizer),
    )


def restore_context_length() -> None:
    """Let the worker determine the context length of any model.

    Cause: `fastchat.utils.get_context_length` reads `config.rope_scaling["factor"]` whenever
    `rope_scaling` is set, and transformers 5 always sets it: KeyError while the worker starts.
    Must run before `fastchat.serve` is imported, which imports the function by name.
    """
    import fastchat.utils

    fastchat.utils.get_context_length = context_length


def context_length(config: Any) -> int:
    """Return how many tokens a model of this configuration can attend to."""
    return context_tokens(config.to_dict()) or _DEFAULT_TOKENS


def main(*words: str) -> int:
    """Serve until it is stopped; return the exit code."""
    return run_engine(words, load)
