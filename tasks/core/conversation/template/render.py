"""A conversation as the text that the model sees, with the spans of the assistant's answers.

FastChat's own templates are the only source, so that training, evaluation and serving cannot
differ. The spans are found by rendering placeholders instead of texts; the meaning of FastChat's
separator styles is not repeated here. The invariant: the text equals FastChat's `get_prompt` for
the same turns, and a span covers what the model has to generate for one answer when it is served:
everything after FastChat's prompt for it, up to and including the end mark.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from fastchat.conversation import Conversation as FastChatTemplate
from fastchat.conversation import SeparatorStyle, conv_templates, get_conv_template

from tasks.core.conversation.records import Conversation
from tasks.core.errors import DataError, RecipeError

_PLACEHOLDER = "\ue000"


@dataclass(frozen=True)
class AnswerSpan:
    """Characters [start, end) of a text."""

    start: int
    end: int


@dataclass(frozen=True)
class MarkInText:
    """A text of a conversation holds a mark that belongs to the template or the tokenizer.

    `place` is which text of the record, as in `Conversation.texts`; `marks` are those found in it.
    """

    record_id: str
    place: str
    marks: str
    what: str
    next_step: str

    def error(self) -> DataError:
        """Return the error to raise where such a conversation cannot be left out."""
        where = f"{self.record_id}, {self.place}"
        return DataError(self.what, where=where, found=self.marks, next_step=self.next_step)


@dataclass(frozen=True)
class Rendered:
    """The text of a conversation, and the span of each answer with its end mark."""

    text: str
    spans: tuple[AnswerSpan, ...]


def get_template(name: str) -> FastChatTemplate:
    """Return a fresh copy of FastChat's template with this name.

    Raises RecipeError, with similar names, if FastChat has none, or if the template is for an API
    that takes messages instead of a text.
    """
    if name not in conv_templates:
        near = difflib.get_close_matches(name, conv_templates, n=3, cutoff=0.4)
        raise RecipeError(
            "FastChat has no such conversation template.",
            where="template",
            found=name,
            expected=f"one like {', '.join(near)}" if near else "a name that FastChat knows",
            next_step="fastchat/conversation.py lists the names; vicuna_v1.1 is the default.",
        )
    template = get_conv_template(name)
    if not isinstance(template.sep_style, SeparatorStyle):
        raise RecipeError(
            "This template is for an API that takes messages; no text can be made with it.",
            where="template",
            found=name,
            next_step="Take a template of an open model, such as vicuna_v1.1.",
        )
    return template


def stop_strings(template: FastChatTemplate) -> tuple[str, ...]:
    """Return the strings at which FastChat ends an answer, besides its stop tokens."""
    stops = template.stop_str or ()
    return (stops,) if isinstance(stops, str) else tuple(stops)


@lru_cache(maxsize=8)
def _end_mark_of(name: str) -> str:
    return end_mark(get_template(name))


def end_mark(template: FastChatTemplate) -> str:
    """Return what the model must generate to end an answer: FastChat's stop string or separator.

    Raises RecipeError if the template ends an answer with white space or nothing: a model cannot
    learn from that when to stop.
    """
    probe = template.copy()
    probe.append_message(probe.roles[0], _PLACEHOLDER)
    after = _around(probe, probe.roles[1], probe.get_prompt())[1]
    ends = [after.index(stop) + len(stop) for stop in stop_strings(template) if stop in after]
    mark = after[: min(ends)] if ends else after.rstrip()
    if not mark:
        raise RecipeError(
            "This template has no mark at the end of an answer, so a model cannot learn to stop.",
            where="template",
            found=template.name,
            next_step="Take a template with an end mark, such as vicuna_v1.1.",
        )
    return mark


def render_conversation(conversation: Conversation, template_name: str) -> Rendered:
    """Return the conversation in FastChat's template, with the spans of its answers.

    Raises RecipeError if the template cannot be used, DataError if a text holds the end mark: the
    model would learn to stop in mid-sentence.
    """
    made = rendered_or_mark(conversation, template_name)
    if isinstance(made, MarkInText):
        raise made.error()
    return made


def rendered_or_mark(conversation: Conversation, template_name: str) -> Rendered | MarkInText:
    """Return what `render_conversation` returns, or the text that holds the end mark.

    Renders twice, once with the texts and once with placeholders, for any number of turns.
    """
    mark = _end_mark_of(template_name)
    template = get_template(template_name)
    if conversation.system is not None:
        template.set_system_message(conversation.system)
    for place, words in conversation.texts():
        if (mark.strip() or mark) in words:
            return MarkInText(
                conversation.id,
                place,
                marks=repr(mark.strip() or mark),
                what="A turn holds the mark that ends an answer.",
                next_step="Write it differently there, or take another template.",
            )
    unprompted = _unprompted(template_name)
    before, *behind = _between(template, conversation)
    parts, at, spans = [before], len(before), list[AnswerSpan]()
    for turn, after in zip(conversation.turns, behind, strict=True):
        if turn.speaker == "gpt":
            spans.append(AnswerSpan(at - unprompted, at + len(turn.text) + len(mark)))
        parts += (turn.text, after)
        at += len(turn.text) + len(after)
    text = "".join(parts)
    if text != _prompt(template, conversation, [turn.text for turn in conversation.turns]):
        raise RecipeError(
            "This template changes the text of a turn.",
            where="template",
            found=template_name,
            next_step="Take a template that keeps them, such as vicuna_v1.1.",
        )
    return Rendered(text, tuple(spans))


def _between(template: FastChatTemplate, conversation: Conversation) -> list[str]:
    """Return what the template puts before, between and after the texts of all turns."""
    count = len(conversation.turns)
    text = _prompt(template, conversation, [_PLACEHOLDER] * count)
    return text.rsplit(_PLACEHOLDER, count)  # the system message may hold one too


def _prompt(template: FastChatTemplate, conversation: Conversation, words: Sequence[str]) -> str:
    probe = template.copy()
    for turn, said in zip(conversation.turns, words, strict=True):
        probe.append_message(probe.roles[turn.speaker == "gpt"], said)
    text: str = probe.get_prompt()
    return text


@lru_cache(maxsize=8)
def _unprompted(template_name: str) -> int:
    """Return how many characters of the template the model has to generate before an answer's text.

    One in Vicuna's template: FastChat's prompt ends with the colon, so the model generates the
    space after it. The number is the same for every answer; the first two are compared to make
    sure. Raises RecipeError if the prompt is not a prefix of the conversation trained on.
    """
    template, found = get_template(template_name), set[int]()
    for _ in range(2):
        template.append_message(template.roles[0], _PLACEHOLDER)
        prompt, probe = template.copy(), template.copy()
        prompt.append_message(prompt.roles[1], None)
        probe.append_message(probe.roles[1], _PLACEHOLDER)
        before = probe.get_prompt().rpartition(_PLACEHOLDER)[0]
        asked = prompt.get_prompt()
        if before.startswith(asked):
            found.add(len(before) - len(asked))
        template = probe
    if len(found) != 1:
        raise RecipeError(
            "FastChat's prompt in this template is not the beginning of a conversation in it.",
            where="template",
            found=template.name,
            next_step="Take a template that is prompted as it is trained, such as vicuna_v1.1.",
        )
    return found.pop()


def _around(template: FastChatTemplate, role: str, text: str) -> tuple[str, str]:
    """Return what the template puts before and after the text of the next turn of this role."""
    probe = template.copy()
    probe.append_message(role, _PLACEHOLDER)
    before, _, after = probe.get_prompt()[len(text) :].partition(_PLACEHOLDER)
    return before, after
