"""How likely a model on the disk finds an answer, read as any program reads it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from fastchat.conversation import get_conv_template
from transformers import AutoModelForCausalLM, AutoTokenizer


@dataclass(frozen=True)
class Pair:
    """A question, what was served, and what the team has accepted instead."""

    question: str
    served: str
    corrected: str


@dataclass(frozen=True)
class Released:
    """A model on the disk, read as any program reads it."""

    path: Path

    @cached_property
    def _model(self) -> object:
        return AutoModelForCausalLM.from_pretrained(self.path, dtype=torch.float32)

    def margin(self, pair: Pair) -> float:
        """Return how much likelier the corrected answer is than the one that was served."""
        corrected, served = (
            self.log_likelihood(pair.question, answer) for answer in (pair.corrected, pair.served)
        )
        return corrected - served

    def log_likelihood(self, asked: str, answer: str) -> float:
        """Return the sum over the answer's tokens, after the question in FastChat's template."""
        tokenizer = AutoTokenizer.from_pretrained(self.path)
        conversation = get_conv_template("vicuna_v1.1")
        conversation.append_message(conversation.roles[0], asked)
        conversation.append_message(conversation.roles[1], None)
        prompt = tokenizer(conversation.get_prompt()).input_ids
        whole = prompt + tokenizer(f" {answer}", add_special_tokens=False).input_ids
        with torch.no_grad():
            logits = self._model(torch.tensor([whole])).logits[0]  # type: ignore[operator]
        steps = logits[:-1].log_softmax(-1).gather(1, torch.tensor(whole[1:])[:, None])
        return float(steps[len(prompt) - 1 :].sum())
