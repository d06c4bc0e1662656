"""The command line of vLLM's server, from the arguments of its process and the model's config.

For vLLM 0.32. Pure. `python -m`, because `vllm serve` of the CPU wheel fails for missing package
metadata; `-P` and `-s`, so that neither the working directory nor the user's site directory adds
another environment's packages. PYTHONPATH holds the gate's directory only.
"""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from tasks.core.errors import NotAModel
from tasks.core.model.config import context_tokens
from tasks.core.planning.serving import kv_cache_bytes
from tasks.core.planning.shape import dtype_from_config, shape_from_config
from tasks.core.recipe import Dtype
from tasks.core.serving.engines.inside_vllm.kawan_usaha_gate import MIDDLEWARE

_MODULE: Final = "vllm.entrypoints.openai.api_server"
_MINUTE_S: Final = 60
_CACHE_TOKENS: Final = 1024
"""On a CPU, the cache per request; longer ones use that of others, or wait."""
_BLOCK_TOKENS: Final = 128
"""On a CPU it allocates the cache in blocks of this size, and keeps one for itself."""
_WIDTH: Final = {"float32": 4, "float16": 2, "bfloat16": 2}
_SHARE_ALONE, _SHARE_BESIDE = 0.9, 0.45
"""Share of a GPU's memory. During a side-by-side switch two engines use it."""


class Setup(BaseModel):
    """The setup of a server, which every answer contains in OpenAI's system_fingerprint.

    rounds_like is the name of its tolerance: see `proof.edit_fingerprint_match`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    build: str
    device: str
    dtype: Dtype
    rounds_like: str
    context_tokens: int


class VllmArguments(BaseModel):
    """The argument `--settings` of the process, as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    python: Path
    model: str
    model_name: str
    port: int
    device: str
    gpus: int
    dtype: Dtype | None
    load_8bit: bool
    running: int
    waiting: int
    drain_s: int
    beside: bool
    extra: str


def setup_of(arguments: VllmArguments, config: Mapping[str, object], build: str) -> Setup:
    """Return the setup of a server with these arguments for a model of this configuration.

    On a GPU it computes in the 16-bit type that the model is stored in. Raises NotAModel for a
    configuration without a context length.
    """
    half: Dtype = "bfloat16" if dtype_from_config(config) == "bfloat16" else "float16"
    dtype = arguments.dtype or half
    limit = context_tokens(config)
    if limit is None:
        raise NotAModel(
            "The configuration does not say how many tokens the model can attend to.",
            where="config.json",
            expected="max_position_embeddings",
        )
    return Setup(
        build=build,
        device=arguments.device,
        dtype=dtype,
        rounds_like="fp8" if arguments.load_8bit else dtype,
        context_tokens=limit,
    )


def vllm_command(
    arguments: VllmArguments, setup: Setup, config: Mapping[str, object]
) -> tuple[str, ...]:
    """Return the complete command."""
    return (
        *(str(arguments.python), "-P", "-s", "-u", "-m", _MODULE),
        *("--host", "127.0.0.1", "--port", str(arguments.port)),
        *("--middleware", MIDDLEWARE),
        *("--model", arguments.model, "--served-model-name", arguments.model_name),
        # transformers' class only: ours with its code, or plain LLaMA.
        *("--model-impl", "transformers", "--trust-remote-code"),
        *("--dtype", setup.dtype, "--max-model-len", str(setup.context_tokens)),
        *("--generation-config", "vllm"),  # the gateway decides on sampling, not the model
        *("--max-num-seqs", str(arguments.running)),
        *("--max-num-queued-reqs", str(arguments.running + arguments.waiting)),
        # The default, 0, leaves open streams without an error or an end.
        *("--shutdown-timeout", str(drain_s(arguments.drain_s))),
        *("--fingerprint-mode", "custom", "--fingerprint-value", _compact(setup)),
        *("--no-enable-log-requests", "--disable-uvicorn-access-log", "--disable-fastapi-docs"),
        *_of_the_device(arguments, setup, config),
        *shlex.split(arguments.extra),
    )


def drain_s(wanted_s: int) -> int:
    """Return how long vLLM continues after SIGTERM. The gateway has drained it by then."""
    return max(1, min(wanted_s, _MINUTE_S))


def _of_the_device(
    arguments: VllmArguments, setup: Setup, config: Mapping[str, object]
) -> tuple[str, ...]:
    if setup.device == "cpu":
        tokens = max(setup.context_tokens, arguments.running * _CACHE_TOKENS)
        tokens += (arguments.running + 1) * _BLOCK_TOKENS
        room = kv_cache_bytes(shape_from_config(config), tokens, width=_WIDTH[setup.dtype])
        return ("--kv-cache-memory-bytes", str(room))
    share = _SHARE_BESIDE if arguments.beside else _SHARE_ALONE
    spread = ("--tensor-parallel-size", str(arguments.gpus))
    eight = ("--quantization", "fp8_per_tensor") if arguments.load_8bit else ()
    return (*spread, "--gpu-memory-utilization", str(share), *eight)


def _compact(setup: Setup) -> str:
    return json.dumps(setup.model_dump(), separators=(",", ":"))
