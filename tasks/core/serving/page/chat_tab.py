"""The tab on which a person talks to the model.

The invariant: a question without an answer is put back into the input field, and is not part of the
conversation.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import gradio as gr

from tasks.core.serving.client.turns import ChatMessage
from tasks.core.serving.page import words
from tasks.core.serving.page.examples import ExamplePrompt
from tasks.core.serving.page.gateway import Progress, ServedModel, Trouble
from tasks.core.serving.page.judging import Judging
from tasks.core.serving.page.own_data import OwnData, Person
from tasks.core.serving.page.shown import Shown, messages_of
from tasks.core.serving.page.stopping import AnswerStopped, Stops
from tasks.core.serving.page.wishes import Wishes, notice, wish

Update = dict[Any, Any]

_CARDS = 4
_EXAMPLES = 12  # the last ones of the evaluation are questions to be declined
_LONGEST_QUESTION = 20_000


class ChatTab:
    """The widgets of the tab, and the handlers of its buttons."""

    def __init__(
        self, model: ServedModel, examples: Sequence[ExamplePrompt], *, kept_days: int | None
    ) -> None:
        self._model, self._stops = model, Stops()
        cards, more = examples[:_CARDS], examples[_CARDS:_EXAMPLES]
        self.chat = _bubbles(cards)
        self._left_out = gr.State(0)
        self._notice = gr.Markdown(visible=False, elem_classes="notice")
        self._show_question()
        self._answer_id = gr.State(None)  # of the last answer, if it is kept
        self._own = OwnData(model, kept_days) if kept_days else None
        self._consent = (
            [self._own.mine, self._own.agrees] if self._own else [gr.State(), gr.State()]
        )
        self._judging = Judging(model, self._answer_id, self._own.mine) if self._own else None
        with gr.Accordion(words.MORE_EXAMPLES, open=False, visible=bool(more)):
            self._more = [
                gr.Button(each.prompt, size="md", elem_classes="example") for each in more
            ]
        self._wishes = Wishes(512)
        self._new = gr.Button(words.NEW_CHAT, size="md", variant="secondary")

    def _show_question(self) -> None:
        with gr.Row(equal_height=True, elem_id="ask"):
            self._question = gr.Textbox(
                label=words.QUESTION,
                show_label=False,
                placeholder=words.QUESTION_HINT,
                lines=1,
                max_lines=6,
                max_length=_LONGEST_QUESTION,
                scale=8,
                elem_id="question",
            )
            self._send = gr.Button(words.SEND, variant="primary", size="md", scale=1, min_width=110)
            self._stop = gr.Button(
                words.STOP, variant="stop", size="md", scale=1, min_width=110, visible=False
            )

    def connect(self, blocks: gr.Blocks) -> None:
        """Connect the widgets to their handlers."""
        if self._own:
            self._own.connect(blocks)
        inputs = [self._question, self.chat, self._left_out, *self._consent, *self._wishes.inputs]
        outputs = [self._question, self.chat, self._left_out, *self._around]
        quiet: Any = {"show_progress": "hidden", "api_visibility": "private"}
        written = gr.on(
            [self._question.submit, self._send.click], self.ask, inputs, outputs, **quiet
        )
        chosen = [self.chat.example_select, *[each.click for each in self._more]]
        question = gr.on(chosen, _chosen, None, self._question, **quiet)
        for asked in (written, question.then(self.ask, inputs, outputs, **quiet)):
            asked.then(self.ended, self._answer_id, self._around, **quiet)  # see `stopping`
        self._stop.click(self.stop, None, None, trigger_mode="multiple", **quiet)
        self._new.click(self.begin, None, outputs, **quiet)

    @property
    def _around(self) -> list[Any]:
        return [
            self._notice,
            self._send,
            self._stop,
            self._new,
            *(self._judging.outputs if self._judging else []),
        ]

    async def ask(  # noqa: PLR0917 - gradio hands over the inputs in order
        self,
        question: str,
        shown: list[Shown],
        left_out: int,
        mine: object,
        agrees: object,
        temperature: float,
        tokens: float,
        request: gr.Request,
    ) -> AsyncGenerator[Update, None]:
        """Show the answer to a question as it grows."""
        if not question.strip():
            yield {self._notice: notice(words.EMPTY_QUESTION)}
            return
        before = messages_of(shown)
        said = [*before, ChatMessage(role="user", content=question.strip())]
        yield {
            self._question: "",
            self.chat: [*said, ChatMessage(role="assistant", content="…")],
            **self._answering(),
        }
        last = None
        try:
            wanted = wish(temperature, tokens)
            kept_for = Person.of(mine).keeps_for(agrees)
            answer = self._model.answer(said[left_out:], wanted, kept_for=kept_for)
            heeded = self._stops.heeded(request.session_hash, answer)
            async with aclosing(heeded) as progress:
                async for last in progress:
                    yield self._grown(said, last.text, left_out, last.left_out)
        except Trouble as trouble:
            yield self._unanswered(before, question, str(trouble))
            return
        except AnswerStopped:
            if last and last.text:
                yield {self._notice: notice(words.STOPPED)}
            else:
                yield self._unanswered(before, question, words.STOPPED)
            return
        yield {self._notice: notice(_lacking(last, left_out)), **self._kept(last, kept_for)}

    def _kept(self, last: Progress | None, kept_for: str | None) -> Update:
        if self._judging is None or kept_for is None or last is None:
            return {}
        return {self._answer_id: last.id}

    def ended(self, answer_id: str | None) -> Update:
        """Enable the next question, and rating the answer if it is stored."""
        update: Update = {
            self._send: gr.Button(visible=True),
            self._stop: gr.Button(visible=False),
            self._new: gr.Button(visible=True),
        }
        if self._judging and answer_id:
            update |= self._judging.opened()
        return update

    def _grown(self, said: list[ChatMessage], text: str, before: int, left_out: int) -> Update:
        update: Update = {self.chat: [*said, ChatMessage(role="assistant", content=text or "…")]}
        if left_out:
            update[self._left_out] = before + left_out
            update[self._notice] = notice(words.left_out(before + left_out))
        return update

    def _unanswered(self, before: list[ChatMessage], question: str, told: str) -> Update:
        return {self.chat: before, self._question: question, self._notice: notice(told)}

    def stop(self, request: gr.Request) -> None:
        """Stop the answer; `ask` shows the result."""
        self._stops.stop(request.session_hash)

    def begin(self) -> Update:
        """Start a new conversation."""
        return {
            self.chat: [],
            self._left_out: 0,
            self._question: "",
            self._notice: notice(),
            **(self._judging.closed() if self._judging else {}),
        }

    def _answering(self) -> Update:
        return {
            self._notice: notice(),
            self._send: gr.Button(visible=False),
            self._stop: gr.Button(visible=True),
            self._new: gr.Button(visible=False),
            **(self._judging.closed() if self._judging else {}),
        }


def _bubbles(cards: Sequence[ExamplePrompt]) -> gr.Chatbot:
    """Return the conversation; while it is empty, it shows the examples as cards."""
    return gr.Chatbot(
        elem_id="chat",
        show_label=False,
        height="min(60vh, 32rem)",
        buttons=[],
        feedback_options=None,
        placeholder=words.WELCOME,
        examples=[{"text": each.prompt} for each in cards],
        latex_delimiters=[],
        allow_tags=False,
        layout="bubble",
    )


def _lacking(last: Progress | None, left_out: int) -> str:
    """Return what an answer was made without, or ended before; empty for a whole one."""
    told = words.left_out(left_out + last.left_out) if last and last.left_out else ""
    return f"{told} {words.CUT}".strip() if last and last.cut else told


def _chosen(event: gr.EventData) -> str:
    """Return the text of a card, or of a button."""
    if isinstance(event.target, gr.Button):
        return str(event.target.value)
    return str(event.value["text"])
