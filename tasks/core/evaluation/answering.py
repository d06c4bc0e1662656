"""Greedy answers to prompts, generated in batches, for reading side by side."""

import time
from collections.abc import Callable, Collection, Sequence

import torch
from transformers import PreTrainedModel, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from tasks.core.conversation.template.render import get_template, stop_strings
from tasks.core.evaluation.figures import ModelAnswer, Role
from tasks.core.evaluation.prompts import Prompt


class _Counting(BaseStreamer):
    """Counts the tokens that `generate` streams after the prompt."""

    def __init__(self, on_token: Callable[[int], None]) -> None:
        self._on_token = on_token
        self._streamed = 0

    def put(self, value: torch.Tensor) -> None:
        """Receive the prompt first, then one token at a time."""
        if self._streamed:
            self._on_token(self._streamed)
        self._streamed += 1

    def end(self) -> None:
        """Nothing to do at the end."""


class _StopAt(StoppingCriteria):
    """Ends an answer at the first of the template's stop strings, as FastChat does.

    `ended` has the length at which each row of the batch ended, prompt and padding included.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str], prompt_tokens: int
    ) -> None:
        self.ended: dict[int, int] = {}
        self._tokenizer = tokenizer
        self._stops = stops
        self._prompt_tokens = prompt_tokens
        # A stop string may start and end inside a token, and a character may take four tokens.
        self._window_tokens = 4 * max(map(len, stops), default=0) + 4

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object
    ) -> torch.BoolTensor:
        """Return for each row whether its last tokens contain a stop string."""
        length = input_ids.shape[1]
        start = max(self._prompt_tokens, length - self._window_tokens)
        for row, tokens in enumerate(input_ids[:, start:].tolist()):
            text = self._tokenizer.decode(tokens)
            if row not in self.ended and any(stop in text for stop in self._stops):
                self.ended[row] = length
        found = [row in self.ended for row in range(len(input_ids))]
        return torch.tensor(found, device=input_ids.device)  # type: ignore[return-value]


class Answerer:
    """A model that answers prompts, with its tokenizer and conversation template."""

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
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        on_token: Callable[[int], None] | None = None,
    ) -> list[ModelAnswer]:
        """Return a greedy answer of at most max_new_tokens tokens for each prompt.

        The answers are generated as one batch, which reads the weights once per step. Each ends
        before the template's stop string, as in serving. `on_token` is called with the number of
        each new token, from 1. The time is divided among the answers by their tokens.
        """
        template = get_template(self._template)
        ends = {self._tokenizer.eos_token_id, *(template.stop_token_ids or [])} - {None}
        input_ids, mask = self._padded([self._encoded(prompt) for prompt in prompts])
        width, stops = input_ids.shape[1], stop_strings(template)
        stop_at = _StopAt(self._tokenizer, stops, width)
        started = time.monotonic()
        output = self._model.generate(  # type: ignore[operator]
            input_ids=input_ids,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(ends),
            stopping_criteria=StoppingCriteriaList([stop_at] if stops else []),
            pad_token_id=self._tokenizer.eos_token_id,
            streamer=None if on_token is None else _Counting(on_token),
        )
        wall_s = time.monotonic() - started
        new_tokens = [
            _until(row[width : stop_at.ended.get(number)], ends)
            for number, row in enumerate(output.tolist())
        ]
        return self._answers(prompts, new_tokens, stops, wall_s)

    def _answers(
        self,
        prompts: Sequence[Prompt],
        new_tokens: Sequence[list[int]],
        stops: Sequence[str],
        wall_s: float,
    ) -> list[ModelAnswer]:
        share_s = wall_s / max(1, sum(map(len, new_tokens)))
        return [
            ModelAnswer(
                role=self._role,
                prompt_id=prompt.id,
                prompt=prompt.text,
                text=self._text(tokens, stops),
                tokens=len(tokens),
                wall_s=share_s * len(tokens),
            )
            for prompt, tokens in zip(prompts, new_tokens, strict=True)
        ]

    def _encoded(self, prompt: Prompt) -> list[int]:
        template = get_template(self._template)
        template.append_message(template.roles[0], prompt.text)
        template.append_message(template.roles[1], None)
        ids: list[int] = self._tokenizer(template.get_prompt())["input_ids"]
        return ids

    def _padded(self, rows: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows as one batch, padded on the left, and its attention mask."""
        width, device = max(map(len, rows)), self._model.device
        padding, before = [self._tokenizer.eos_token_id or 0], [width - len(row) for row in rows]
        ids = [padding * empty + row for empty, row in zip(before, rows, strict=True)]
        mask = [[0] * empty + [1] * (width - empty) for empty in before]
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)

    def _text(self, tokens: list[int], stops: Sequence[str]) -> str:
        text = str(self._tokenizer.decode(tokens, skip_special_tokens=True))
        end = min((text.find(stop) for stop in stops if stop in text), default=None)
        return text[:end].strip()


def _until(tokens: list[int], ends: Collection[int]) -> list[int]:
    """Return the tokens up to and including the first that ends an answer."""
    last = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[: last + 1]
