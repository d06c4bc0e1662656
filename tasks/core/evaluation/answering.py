"""Greedy answers to prompts, for reading side by side; several are written at once."""

import time
from collections.abc import Callable, Collection, Sequence

import torch
from transformers import PreTrainedModel, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from tasks.core.conversation.template.render import get_template, stop_strings
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
    """Ends an answer once it holds one of the template's stop strings, as FastChat does.

    `ended` is the length at which each row of the batch did, prompt and padding included.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str], prompt_tokens: int
    ) -> None:
        self.ended: dict[int, int] = {}
        self._tokenizer = tokenizer
        self._stops = stops
        self._prompt_tokens = prompt_tokens
        # A stop string may begin and end within a token, and a letter may take four of them.
        self._looked_at_tokens = 4 * max(map(len, stops)) + 4

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object
    ) -> torch.BoolTensor:
        """Return for each row whether its last tokens hold a stop string."""
        length = input_ids.shape[1]
        start = max(self._prompt_tokens, length - self._looked_at_tokens)
        for row, tokens in enumerate(input_ids[:, start:].tolist()):
            text = self._tokenizer.decode(tokens)
            if row not in self.ended and any(stop in text for stop in self._stops):
                self.ended[row] = length
        found = [row in self.ended for row in range(len(input_ids))]
        return torch.tensor(found, device=input_ids.device)  # type: ignore[return-value]


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
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        on_token: Callable[[int], None] | None = None,
    ) -> list[Answer]:
        """Return an answer a prompt of at most max_new_tokens tokens, each the likeliest one.

        They are written side by side: a token of several answers reads the weights once. Each ends
        before the template's stop string, as it does where the model is served. `on_token` gets the
        number of each token when it is written, from 1. The seconds are shared by their tokens.
        """
        template = get_template(self._template)
        ends = {self._tokenizer.eos_token_id, *(template.stop_token_ids or [])} - {None}
        input_ids, mask = self._padded([self._encoded(prompt) for prompt in prompts])
        width, stops = input_ids.shape[1], stop_strings(template)
        stop_at = _StopAt(self._tokenizer, stops, width) if stops else None
        started = time.monotonic()
        output = self._model.generate(  # type: ignore[operator]
            input_ids=input_ids,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(ends),
            stopping_criteria=StoppingCriteriaList([stop_at] if stop_at else []),
            pad_token_id=self._tokenizer.eos_token_id,
            streamer=None if on_token is None else _Counting(on_token),
        )
        wall_s = time.monotonic() - started
        ended = stop_at.ended if stop_at else {}
        new = [
            _until(row[width : ended.get(number)], ends)
            for number, row in enumerate(output.tolist())
        ]
        share_s = wall_s / max(1, sum(map(len, new)))
        return [
            Answer(
                role=self._role,
                prompt_id=prompt.id,
                prompt=prompt.text,
                text=self._text(tokens, stops),
                tokens=len(tokens),
                wall_s=share_s * len(tokens),
            )
            for prompt, tokens in zip(prompts, new, strict=True)
        ]

    def _encoded(self, prompt: Prompt) -> list[int]:
        template = get_template(self._template)
        template.append_message(template.roles[0], prompt.text)
        template.append_message(template.roles[1], None)
        ids: list[int] = self._tokenizer(template.get_prompt())["input_ids"]
        return ids

    def _padded(self, rows: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows as one batch, padded in front, and the mask of what is no padding."""
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
    """Return the tokens to the first that ends an answer, with it; padding may follow."""
    last = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[: last + 1]
