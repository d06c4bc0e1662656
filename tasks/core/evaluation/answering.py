"""Greedy answers to prompts, for reading side by side."""

import time
from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from tasks.core.conversation.template import get_template, stop_strings
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


class _StopAt(StoppingCriteria):
    """Ends an answer once it holds one of the template's stop strings, as FastChat does."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str], prompt_tokens: int
    ) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._prompt_tokens = prompt_tokens
        # A stop string may begin and end within a token, and a letter may take four of them.
        self._looked_at_tokens = 4 * max(map(len, stops)) + 4

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object
    ) -> torch.BoolTensor:
        """Return for the only row whether its last tokens hold a stop string."""
        start = max(self._prompt_tokens, input_ids.shape[1] - self._looked_at_tokens)
        text = self._tokenizer.decode(input_ids[0, start:])
        found = any(stop in text for stop in self._stops)
        return torch.tensor([found], device=input_ids.device)  # type: ignore[return-value]


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

        It ends before the template's stop string, as it does where the model is served.
        `on_token` gets the number of each token when it is written, from 1.
        """
        template = get_template(self._template)
        template.append_message(template.roles[0], prompt.text)
        template.append_message(template.roles[1], None)
        encoded = self._tokenizer(template.get_prompt(), return_tensors="pt")
        input_ids = encoded["input_ids"].to(self._model.device)
        ends = {self._tokenizer.eos_token_id, *(template.stop_token_ids or [])} - {None}
        stops = stop_strings(template)
        criteria = [_StopAt(self._tokenizer, stops, input_ids.shape[1])] if stops else []
        started = time.monotonic()
        output = self._model.generate(  # type: ignore[operator]
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(ends),
            stopping_criteria=StoppingCriteriaList(criteria),
            pad_token_id=self._tokenizer.eos_token_id,
            streamer=None if on_token is None else _Counting(on_token),
        )
        new = output[0, input_ids.shape[1] :].tolist()
        text = str(self._tokenizer.decode(new, skip_special_tokens=True))
        text = text[: min((text.find(stop) for stop in stops if stop in text), default=None)]
        return Answer(
            role=self._role,
            prompt_id=prompt.id,
            prompt=prompt.text,
            text=text.strip(),
            tokens=len(new),
            wall_s=time.monotonic() - started,
        )
