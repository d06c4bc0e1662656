"""Tokens and labels of a conversation.

Uses the character offsets of fast tokenizers, instead of counting the tokens of split strings as
FastChat does. The invariant: a token has a label exactly when it holds a character that the model
has to generate (`AnswerSpan`), and an example ends with a whole answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from fastchat.conversation import conv_templates

from tasks.core.conversation.records import Conversation
from tasks.core.conversation.template.render import (
    AnswerSpan,
    MarkInText,
    Rendered,
    end_mark,
    get_template,
    render_conversation,
    rendered_or_mark,
    stop_strings,
)
from tasks.core.errors import RecipeError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label that torch's cross entropy ignores: of a token that is not learned."""

TokenState = Literal["learned", "masked", "truncated"]

_PROBE = "USER: Berapa harga kue? (10%)\n\nASSISTANT:  Rp 12.500, Bu — terjangkau 🙂."


@dataclass(frozen=True)
class Example:
    """Token ids and labels of one conversation, of equal length, up to its last whole answer.

    Both are empty if not even the first answer fits. `dropped_answers` did not fit;
    `dropped_tokens` counts their tokens and those of the turns between.
    """

    input_ids: list[int]
    labels: list[int]
    dropped_answers: int = 0
    dropped_tokens: int = 0

    @property
    def learned_tokens(self) -> int:
        """The number of tokens with a label."""
        return sum(label != IGNORED for label in self.labels)


@dataclass(frozen=True)
class TokenText:
    """The text of one token, and what training does with it."""

    text: str
    state: TokenState


def last_answer(example: Example) -> Example:
    """Return the example with the labels of its last answer only."""
    labels = [IGNORED] * len(example.labels)
    at = len(labels)
    while at and example.labels[at - 1] == IGNORED:
        at -= 1
    while at and example.labels[at - 1] != IGNORED:
        at -= 1
        labels[at] = example.labels[at]
    return replace(example, labels=labels)


class Encoder:
    """Turns conversations into examples for one tokenizer, template and length."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", template_name: str, max_length_tokens: int
    ) -> None:
        """Raise RecipeError unless the tokenizer has offsets and stops at the template's end mark.

        A model trained on an end mark at which generation does not stop would never stop.
        """
        if not tokenizer.is_fast:
            raise RecipeError(
                "The labels need a fast tokenizer: others do not say where a token stands.",
                where=type(tokenizer).__name__,
                next_step="Convert it once with transformers' AutoTokenizer and save it.",
            )
        self.tokenizer = tokenizer
        self._template_name = template_name
        self._max_length_tokens = max_length_tokens
        self._special = _special_tokens(tokenizer)
        self._bos: int | None = tokenizer.bos_token_id  # transformers looks it up on each access
        self._splits_special = bool(tokenizer.split_special_tokens)
        self._backend = _backend_of(tokenizer)
        self._require_a_mark_that_ends()

    def __getstate__(self) -> dict[str, object]:
        """Leave out transformers' tokenizer, which is expensive to load in another process."""
        return {name: value for name, value in vars(self).items() if name != "tokenizer"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._backend.encode_special_tokens = self._splits_special

    def encode(self, conversation: Conversation) -> Example:
        """Return the tokens of the conversation, cut after the last answer that fits whole.

        Raises DataError if a turn or the system message holds a mark of the template or the text of
        a special token: the tokenizer would take it for the template's own.
        """
        (example,) = self.encode_all([conversation])
        if isinstance(example, MarkInText):
            raise example.error()
        return example

    def encode_all(self, conversations: Sequence[Conversation]) -> list[Example | MarkInText]:
        """Return the example of each, or the text that keeps it from one; tokenized together."""
        rendered = [self._rendered(conversation) for conversation in conversations]
        texts = [one.text for one in rendered if isinstance(one, Rendered)]
        encoded = iter(self._backend.encode_batch(texts))
        return [
            self._example(one, next(encoded)) if isinstance(one, Rendered) else one
            for one in rendered
        ]

    def _rendered(self, conversation: Conversation) -> Rendered | MarkInText:
        for place, text in conversation.texts():
            special = self.marks_in(text)
            if special:
                return MarkInText(
                    conversation.id,
                    place,
                    marks=", ".join(special),
                    what="A turn holds the text of a special token.",
                    next_step="Write it differently there.",
                )
        return rendered_or_mark(conversation, self._template_name)

    def marks_in(self, text: str) -> list[str]:
        """Return the special tokens that the tokenizer would find in a text."""
        return [mark for mark in self._special if mark in text]

    def explain(
        self, conversation: Conversation, *, answers: Literal["all", "last"] = "all"
    ) -> tuple[TokenText, ...]:
        """Return every token of the conversation with its text, in order.

        `answers` says which answers training has labels for.
        """
        rendered = render_conversation(conversation, self._template_name)
        example, offsets = self.encode(conversation), self._backend.encode(rendered.text).offsets
        if answers == "last":
            example = last_answer(example)
        states: list[TokenState] = [
            "masked" if label == IGNORED else "learned" for label in example.labels
        ]
        states += ["truncated" if example.dropped_answers else "masked"] * len(offsets)
        texts, at = [], 0
        for start, end in offsets:
            # A letter of several tokens is shown with the first, as are spaces of no token.
            texts.append(rendered.text[at : max(at, end)] if end > start else "")
            at = max(at, end)
        return tuple(TokenText(text, state) for text, state in zip(texts, states, strict=False))

    def _example(self, rendered: Rendered, encoded: "Encoding") -> Example:
        ids, offsets = encoded.ids, encoded.offsets
        labels = [IGNORED] * len(ids)
        end, kept_answers, at = 0, 0, 0
        for span in rendered.spans:
            answer = _tokens_of(span, offsets, at)
            at = answer.stop
            if answer.stop > self._max_length_tokens:
                break
            for i in answer:
                if ids[i] != self._bos:  # LLaMA-2's separator ends with one
                    labels[i] = ids[i]
            end, kept_answers = answer.stop, kept_answers + 1
        dropped_answers = len(rendered.spans) - kept_answers
        dropped_tokens = len(ids) - end if dropped_answers else 0
        return Example(ids[:end], labels[:end], dropped_answers, dropped_tokens)

    def _require_a_mark_that_ends(self) -> None:
        template = get_template(self._template_name)
        mark = end_mark(template)
        if any(stop in mark for stop in stop_strings(template)):
            return
        ids = self.tokenizer(mark, add_special_tokens=False)["input_ids"]
        last = next((i for i in reversed(ids) if i != self._bos), None)
        if last not in (self.tokenizer.eos_token_id, *(template.stop_token_ids or [])):
            raise RecipeError(
                "The template's end mark is not what this model's generation stops at.",
                where=f"template {template.name}",
                expected=self.tokenizer.eos_token,
                found=mark,
                next_step=_fitting(str(self.tokenizer.eos_token)),
            )


def _backend_of(tokenizer: "PreTrainedTokenizerBase") -> "Tokenizer":
    """Return a copy of a fast tokenizer's backend, configured as in a plain call.

    Raises RecipeError for a tokenizer whose own code changes a text before the backend.
    """
    from tokenizers import Tokenizer

    fast: Any = tokenizer
    # A copy: a call may change the limits of the original.
    backend = Tokenizer.from_str(fast.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = bool(tokenizer.split_special_tokens)
    wanted = tokenizer(_PROBE, return_offsets_mapping=True, verbose=False)
    encoded = backend.encode(_PROBE)
    if (encoded.ids, encoded.offsets) != (wanted["input_ids"], wanted["offset_mapping"]):
        raise RecipeError(
            "This tokenizer has code of its own that changes a text before splitting it.",
            where=type(tokenizer).__name__,
            next_step="Take a tokenizer that is all in its tokenizer.json.",
        )
    return backend


def _special_tokens(tokenizer: "PreTrainedTokenizerBase") -> tuple[str, ...]:
    """Return the texts that the tokenizer takes for special tokens.

    `all_special_tokens` omits those without a role, such as LLaMA-3's <|eot_id|>.
    """
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    return tuple(dict.fromkeys([*tokenizer.all_special_tokens, *added]))


def _tokens_of(span: AnswerSpan, offsets: list[tuple[int, int]], at: int) -> range:
    """Return the range of tokens, from `at` on, that hold a character of the span."""
    while at < len(offsets) and offsets[at][1] <= span.start:
        at += 1
    stop = at
    while stop < len(offsets) and offsets[stop][0] < span.end:
        stop += 1
    return range(at, stop)


def _fitting(eos_token: str) -> str:
    names = sorted(
        name
        for name, template in conv_templates.items()
        if (template.sep2 or template.sep or "").strip() == eos_token
    )
    return f"Take a template that ends answers so: {', '.join(names) or 'FastChat has none'}."
