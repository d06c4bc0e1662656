"""A model in the engine's process, and what it must prove before the first request."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from pydantic import JsonValue

from tasks.core.model.config import context_tokens, rope_of
from tasks.core.serving.engines.forward import prompt_logprobs
from tasks.core.serving.engines.generator import Generator
from tasks.core.serving.proof.edit_fingerprint_match import require_fingerprint
from tasks.core.serving.proof.readiness import EngineReport, Expectation, require_as_expected

_log = logging.getLogger(__name__)

_CONTEXT_TOKENS = 2048
"""For a model that does not say; FastChat's default."""
_BY_LENGTH = frozenset({"dynamic", "longrope"})


@dataclass(frozen=True)
class LoadedModel:
    """A model that is loaded but not proven.

    template is the conversation template of the engine; precision the type of the weights, one of
    `edit_fingerprint_match.TOLERANCES`; generator starts what answers requests, and is called after
    the proof.
    """

    model: Any
    tokenizer: Any
    template: str
    precision: str
    generator: Callable[[], Generator]

    def report(self, build: str) -> EngineReport:
        """Report what is in memory at this moment."""
        return EngineReport(
            build=build,
            template=self.template,
            model_class=type(self.model).__name__,
            device=str(self.model.device),
            dtype=str(self.model.dtype).removeprefix("torch."),
            context_length_tokens=context_of(self.model),
            resident_bytes=psutil.Process().memory_info().rss,
            device_bytes=_allocated_on_devices(),
            edit=_observed_edit(self.model),
        )

    def prove(self, expectation: Expectation) -> None:
        """Raise EditLost or ServingFailed unless this is the promised model.

        Its own report shows what its modules compute; the log-probabilities show the result.
        """
        require_as_expected(expectation, self.report(expectation.build))
        if expectation.fingerprint is not None:
            match = require_fingerprint(
                expectation.fingerprint,
                prompt_logprobs(self.model, expectation.fingerprint.prompt_ids),
                dtype=self.precision,
                where=type(self.model).__name__,
            )
            _log.info("%s", match)


def precision_of(model: Any, *, load_8bit: bool) -> str:
    """Return the type of a loaded model's weights."""
    return "int8" if load_8bit else str(model.dtype).removeprefix("torch.")


def context_of(model: Any) -> int:
    """Return how many tokens a loaded model can attend to."""
    return context_tokens(model.config.to_dict()) or _CONTEXT_TOKENS


def vocabulary_of(model: Any) -> int:
    """Return how many token ids a loaded model has rows for."""
    return int(model.get_input_embeddings().weight.shape[0])


def end_tokens_of(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end an answer by any of the model's files."""
    named = (
        getattr(model.generation_config, "eos_token_id", None),
        getattr(model.config, "eos_token_id", None),
        tokenizer.eos_token_id,
    )
    each = (ids if isinstance(ids, list) else [ids] for ids in named)
    return frozenset(token for ids in each for token in ids if isinstance(token, int))


def rope_by_length(model: Any) -> frozenset[str]:
    """Return the RoPE types of a model whose frequencies depend on the text read last.

    Such a model keeps them for the next text, so one request would change another one's answer.
    """
    kinds = {str(rope.get("rope_type")) for rope in rope_of(model.config.to_dict())}
    return _BY_LENGTH & kinds


def _observed_edit(model: Any) -> dict[str, JsonValue] | None:
    observe: Callable[[], dict[str, JsonValue]] | None = getattr(model, "kawan_usaha_report", None)
    return None if observe is None else observe()


def _allocated_on_devices() -> int:
    if not torch.cuda.is_available():
        return 0
    return sum(torch.cuda.memory_allocated(i) for i in range(torch.cuda.device_count()))
