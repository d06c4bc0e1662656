"""The tab that turns a conversation into an article: summary, titles, article, each editable.

The invariant: a step changes only its own result, and leaves it as it was if it fails.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from tasks.core.serving.client.turns import ChatMessage
from tasks.core.serving.page import article, words
from tasks.core.serving.page.article_steps import ArticleStep, summarized, titled, written
from tasks.core.serving.page.gateway import ServedModel, Trouble, Wish
from tasks.core.serving.page.shown import Shown, messages_of
from tasks.core.serving.page.stopping import AnswerStopped, Stops
from tasks.core.serving.page.wishes import Wishes, notice, wish

Update = dict[Any, Any]

_LONGEST = 60_000

EXAMPLE: list[ChatMessage] = [
    {
        "role": "user",
        "content": "Saya jualan nasi bakar, pembelinya cuma ramai tanggal muda.",
    },
    {
        "role": "assistant",
        "content": "Coba buat paket hemat untuk tanggal tua dan tawarkan langganan makan siang ke "
        "kantor terdekat.",
    },
]


@dataclass(frozen=True)
class _Making:
    """One result in the making: its steps, its field, and the message meanwhile.

    cleared is what is emptied first.
    """

    steps: AsyncGenerator[ArticleStep, None]
    into: gr.Textbox
    words: str
    cleared: Update | None = None


class ArticleTab:
    """The widgets of the tab, and the handlers of its buttons."""

    def __init__(self, model: ServedModel, chat: gr.Chatbot) -> None:
        self._model, self._stops = model, Stops()
        gr.Markdown(words.ARTICLE_INTRO)
        self._show_fields()
        self._show_status()
        self._wishes = Wishes(1024)
        self._connect(chat)

    def _show_fields(self) -> None:
        with gr.Column(elem_classes="card"):
            self._conversation = _text(
                words.CONVERSATION, words.CONVERSATION_HINT, "conversation", lines=6
            )
            with gr.Row():
                self._from_chat = gr.Button(words.FROM_CHAT, size="md", min_width=130)
                self._example = gr.Button(words.EXAMPLE_CONVERSATION, size="md", min_width=110)
                self._make_summary = _make(words.MAKE_SUMMARY)
        with gr.Column(elem_classes="card"):
            self._summary = _text(words.SUMMARY, words.SUMMARY_HINT, "summary", lines=3)
            self._make_titles = _make(words.MAKE_TITLES)
        with gr.Column(elem_classes="card"):
            self._answer = gr.Textbox(
                label=words.TITLES_ANSWER,
                visible=False,
                interactive=False,
                elem_id="answer",
                buttons=[],
            )
            self._choice = gr.Radio([], label=words.TITLES, visible=False, elem_id="titles")
            self._title = _text(words.TITLE, words.TITLE_HINT, "title", lines=1)
            self._make_article = _make(words.MAKE_ARTICLE)
        with gr.Column(elem_classes="card"):
            self._article = _text(words.ARTICLE, words.ARTICLE_HINT, "article", lines=12)

    def _show_status(self) -> None:
        with gr.Row(elem_id="status"):
            self._notice = gr.Markdown(visible=False, elem_classes="notice")
            self._stop = gr.Button(
                words.STOP,
                variant="stop",
                size="md",
                scale=0,
                min_width=110,
                visible=False,
                elem_id="stop-article",
            )

    def _connect(self, chat: gr.Chatbot) -> None:
        quiet: Any = {"show_progress": "hidden", "api_visibility": "private"}
        wishes = self._wishes.inputs
        summary = [self._summary, *self._around]
        titles = [self._answer, self._choice, self._title, *self._around]
        result = [self._article, *self._around]
        made = (
            (
                self._make_summary,
                self._summary_of,
                words.NO_CONVERSATION,
                self._conversation,
                summary,
            ),
            (self._make_titles, self._titles_of, words.NO_SUMMARY, self._summary, titles),
            (self._make_article, self._article_of, words.NO_TITLE, self._title, result),
        )
        for button, begin, missing, source, outputs in made:
            making = button.click(self._maker(begin, missing), [source, *wishes], outputs, **quiet)
            making.then(self.ended, None, self._around, **quiet)  # see `stopping`
        self._stop.click(self.stop, None, None, trigger_mode="multiple", **quiet)
        taken = [self._conversation, self._notice]
        self._from_chat.click(self.take, chat, taken, **quiet)
        self._example.click(lambda: article.written_down(EXAMPLE), None, taken[:1], **quiet)
        self._choice.input(lambda title: title, self._choice, self._title, **quiet)

    @property
    def _makers(self) -> list[gr.Button]:
        return [self._make_summary, self._make_titles, self._make_article]

    @property
    def _around(self) -> list[Any]:
        return [self._notice, self._stop, *self._makers]

    def take(self, shown: list[Shown]) -> Update:
        """Take the conversation of the other tab."""
        if not (messages := messages_of(shown)):
            return {self._notice: notice(words.NO_CHAT)}
        return {self._conversation: article.written_down(messages), self._notice: notice()}

    def _summary_of(self, text: str, wish: Wish) -> "_Making | None":
        conversation = article.read_conversation(text)
        if not conversation:
            return None
        steps = summarized(self._model, conversation, wish)
        return _Making(steps, self._summary, words.MAKING_SUMMARY)

    def _titles_of(self, summary: str, wish: Wish) -> "_Making | None":
        if not summary.strip():
            return None
        cleared = {
            self._choice: gr.Radio(visible=False),
            self._answer: gr.Textbox("", visible=True),
        }
        steps = titled(self._model, summary, wish)
        return _Making(steps, self._answer, words.MAKING_TITLES, cleared)

    def _article_of(self, title: str, wish: Wish) -> "_Making | None":
        if not title.strip():
            return None
        steps = written(self._model, title, wish)
        return _Making(steps, self._article, words.MAKING_ARTICLE)

    def _maker(
        self, begin: Callable[[str, Wish], "_Making | None"], missing: str
    ) -> Callable[[str, float, float, gr.Request], AsyncGenerator[Update, None]]:
        """Return what a button does: make one thing, or say what is missing for it."""

        async def make(
            source: str, temperature: float, tokens: float, request: gr.Request
        ) -> AsyncGenerator[Update, None]:
            making = begin(source, wish(temperature, tokens))
            if making is None:
                yield {self._notice: notice(missing)}
                return
            if making.cleared:
                yield making.cleared
            async with aclosing(self._shown(request, making)) as updates:
                async for update in updates:
                    yield update

        return make

    async def _shown(self, request: gr.Request, making: "_Making") -> AsyncGenerator[Update, None]:
        """Yield what a step makes as it grows in its field, and what there is to tell."""
        told = ""
        yield {self._notice: notice(making.words), **self._buttons(making=True)}
        try:
            async with aclosing(self._stops.heeded(request.session_hash, making.steps)) as heeded:
                async for step in heeded:
                    told = step.told
                    if step.text:  # until then the earlier one stands
                        yield {making.into: step.text, self._notice: notice(told or making.words)}
                    if step.titles:
                        yield self._offered(step.titles)
        except Trouble as trouble:
            told = str(trouble)
        except AnswerStopped:
            told = words.STOPPED
        yield {self._notice: notice(told)}

    def ended(self) -> Update:
        """Let the next step be made."""
        return self._buttons(making=False)

    def _offered(self, titles: tuple[str, ...]) -> Update:
        return {
            self._answer: gr.Textbox(visible=False),
            self._choice: gr.Radio(list(titles), value=titles[0], visible=True),
            self._title: titles[0],
        }

    def stop(self, request: gr.Request) -> None:
        """End the step; what it has made stays."""
        self._stops.stop(request.session_hash)

    def _buttons(self, *, making: bool) -> Update:
        return {
            self._stop: gr.Button(visible=making),
            **{button: gr.Button(interactive=not making) for button in self._makers},
        }


def _text(label: str, hint: str, name: str, *, lines: int) -> gr.Textbox:
    return gr.Textbox(
        label=label,
        placeholder=hint,
        lines=lines,
        max_lines=max(2 * lines, 4),
        max_length=_LONGEST,
        interactive=True,
        elem_id=name,
    )


def _make(word: str) -> gr.Button:
    return gr.Button(word, size="md", variant="primary", min_width=130)
