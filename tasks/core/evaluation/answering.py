"""Greedy answers to prompts, for reading side by side."""

import time
from collections.abc import Callable

import torch
from transformers import PreTrainedModel
from transformers.generation.streamers import BaseStreamer
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from tasks.core.conversation.template import get_template
from tasks.core.evaluation.figures import Answer, Role
from tasks.core.evaluation.prompts import Prompt


class _Counting(BaseStreamer):
    """Counts the tokens that `generate` streams; what it streams first is the prompt."""

    def __init__(self, on_token: Callable[[int], None]) -> None:
        self._on_token = on_token
        self._streamed = 0

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt, then a token at a time."""
        if self._streamed:
            self._on_token(self._streamed)
        self._streamed += 1

    def end(self) -> None:
        """Nothing is left to count."""


class Answerer:
    """One model with its tokenizer and the template that it is prompted with."""

    def __init__(
        self, role: Role, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, template: str
    ) -> None:
        self._role = role
        self._model = model
        self._tokenizer = tokenizer
        self._template = template

    @torch.inference_mode()
    def answer(
        self,
        prompt: Prompt,
        max_new_tokens: int,
        on_token: Callable[[int], None] | None = None,
    ) -> Answer:
        """Return the answer of at most max_new_tokens tokens, each the likeliest one.

        `on_token` gets the number of each token when it is written, from 1.
        """
        template = get_template(self._template)
        template.append_message(template.roles[0], prompt.text)
        template.append_message(template.roles[1], None)
        encoded = self._tokenizer(template.get_prompt(), return_tensors="pt")
        input_ids = encoded["input_ids"].to(self._model.device)
        stops = {self._tokenizer.eos_token_id, *(template.stop_token_ids or [])} - {None}
        started = time.monotonic()
        output = self._model.generate(  # type: ignore[operator]
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(stops),
            pad_token_id=self._tokenizer.eos_token_id,
            streamer=None if on_token is None else _Counting(on_token),
        )
        new = output[0, input_ids.shape[1] :].tolist()
        text = str(self._tokenizer.decode(new, skip_special_tokens=True))
        return Answer(
            role=self._role,
            prompt_id=prompt.id,
            prompt=prompt.text,
            text=text.strip(),
            tokens=len(new),
            wall_s=time.monotonic() - started,
        )
