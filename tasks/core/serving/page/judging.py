"""The judgement of the last answer, and what would have been a better one.

There only where the deployment keeps it, with the sentence that says so beside it.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from tasks.core.errors import KawanUsahaError
from tasks.core.serving.page import words
from tasks.core.serving.page.feedback import Verdict, judgement, keep
from tasks.core.serving.page.gateway import Model
from tasks.core.serving.page.shown import Shown, messages_of
from tasks.core.serving.page.wishes import LOG, notice

_LONGEST_CORRECTION = 20_000


class Judging:
    """Two thumbs and a text, which write a line each time."""

    def __init__(self, model: Model, chat: gr.Chatbot, file: Path) -> None:
        self._model, self._file = model, file
        self._verdict = gr.State(None)
        with gr.Column(visible=False, elem_id="judging", elem_classes="card") as self._group:
            gr.Markdown(f"**{words.JUDGE}**")
            with gr.Row():
                good = gr.Button(words.GOOD, size="md", scale=0, min_width=100, elem_id="good")
                bad = gr.Button(words.BAD, size="md", scale=0, min_width=120, elem_id="bad")
            self._correction = gr.Textbox(
                label=words.CORRECTION,
                placeholder=words.CORRECTION_HINT,
                lines=2,
                max_lines=8,
                max_length=_LONGEST_CORRECTION,
                elem_id="correction",
            )
            send = gr.Button(words.SEND_CORRECTION, size="md")
            self._thanks = gr.Markdown(visible=False, elem_classes="notice")
            gr.Markdown(words.CONSENT, elem_classes="consent")
        quiet: Any = {"show_progress": "hidden", "api_visibility": "private"}
        outputs = [self._verdict, self._correction, self._thanks]
        good.click(self.good, chat, outputs, **quiet)
        bad.click(self.bad, chat, outputs, **quiet)
        send.click(self.corrected, [chat, self._verdict, self._correction], outputs, **quiet)

    @property
    def outputs(self) -> list[Any]:
        """What changes with the conversation."""
        return [self._group, self._verdict, self._correction, self._thanks]

    def opened(self) -> dict[Any, Any]:
        """Show it."""
        return {self._group: gr.Column(visible=True)}

    def closed(self) -> dict[Any, Any]:
        """Hide and empty it, for another answer."""
        return {
            self._group: gr.Column(visible=False),
            self._verdict: None,
            self._correction: "",
            self._thanks: notice(),
        }

    async def good(self, shown: list[Shown]) -> dict[Any, Any]:
        """Keep that the answer was good."""
        return {self._verdict: "up", **await self._kept(shown, "up", None)}

    async def bad(self, shown: list[Shown]) -> dict[Any, Any]:
        """Keep that the answer was not good."""
        return {self._verdict: "down", **await self._kept(shown, "down", None)}

    async def corrected(
        self, shown: list[Shown], verdict: Verdict | None, text: str
    ) -> dict[Any, Any]:
        """Keep a better answer, with the verdict that was given before."""
        if not text.strip():
            return {self._thanks: notice(words.NO_CORRECTION)}
        return await self._kept(shown, verdict, text.strip())

    async def _kept(
        self, shown: Sequence[Shown], verdict: Verdict | None, correction: str | None
    ) -> dict[Any, Any]:
        messages = messages_of(shown)
        if not messages or messages[-1]["role"] != "assistant":
            return {self._thanks: notice(words.NOT_KEPT)}
        judged = judgement(
            messages,
            model=self._model.name,
            build=await self._model.build(),
            verdict=verdict,
            correction=correction,
        )
        try:
            await asyncio.to_thread(keep, self._file, judged)
        except (OSError, KawanUsahaError) as error:
            LOG.error("a judgement could not be kept: %s", error)
            return {self._thanks: notice(words.NOT_KEPT)}
        thanks = words.THANKS if correction is None else words.THANKS_CORRECTION
        return {self._thanks: notice(thanks)}
