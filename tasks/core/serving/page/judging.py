"""Rating the last answer, and correcting it.

Shown only for an answer that is stored, to which the person has agreed.
"""

from typing import Any, Literal

import gradio as gr

from tasks.core.collected.storage.records import LONGEST_CORRECTION
from tasks.core.serving.page import words
from tasks.core.serving.page.gateway import ServedModel, Trouble
from tasks.core.serving.page.own_data import Person
from tasks.core.serving.page.wishes import LOG, notice

Verdict = Literal["up", "down"]


class Judging:
    """Two buttons and a text field; the gateway stores each input."""

    def __init__(self, model: ServedModel, answer_id: gr.State, mine: gr.BrowserState) -> None:
        self._model, self._answer_id = model, answer_id
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
                max_length=LONGEST_CORRECTION,
                elem_id="correction",
            )
            send = gr.Button(words.SEND_CORRECTION, size="md")
            self._thanks = gr.Markdown(visible=False, elem_classes="notice")
            gr.Markdown(words.CONSENT, elem_classes="consent")
        quiet: Any = {"show_progress": "hidden", "api_visibility": "private"}
        outputs, of = [self._verdict, self._thanks], [self._answer_id, mine]
        good.click(self.good, of, outputs, **quiet)
        bad.click(self.bad, of, outputs, **quiet)
        inputs = [*of, self._verdict, self._correction]
        send.click(self.corrected, inputs, outputs, **quiet)

    @property
    def outputs(self) -> list[Any]:
        """The widgets that change with the conversation."""
        return [self._answer_id, self._group, self._verdict, self._correction, self._thanks]

    def opened(self) -> dict[Any, Any]:
        """Show it."""
        return {self._group: gr.Column(visible=True)}

    def closed(self) -> dict[Any, Any]:
        """Hide and clear it, for another answer."""
        return {
            self._answer_id: None,
            self._group: gr.Column(visible=False),
            self._verdict: None,
            self._correction: "",
            self._thanks: notice(),
        }

    async def good(self, answer_id: str | None, mine: object) -> dict[Any, Any]:
        """Store a positive rating."""
        return {self._verdict: "up", **await self._kept(answer_id, mine, "up", None)}

    async def bad(self, answer_id: str | None, mine: object) -> dict[Any, Any]:
        """Store a negative rating."""
        return {self._verdict: "down", **await self._kept(answer_id, mine, "down", None)}

    async def corrected(
        self, answer_id: str | None, mine: object, verdict: Verdict | None, text: str
    ) -> dict[Any, Any]:
        """Store a better answer, with the rating that was given before."""
        if not text.strip():
            return {self._thanks: notice(words.NO_CORRECTION)}
        return await self._kept(answer_id, mine, verdict, text.strip())

    async def _kept(
        self, answer_id: str | None, mine: object, verdict: Verdict | None, correction: str | None
    ) -> dict[Any, Any]:
        person = Person.of(mine)
        if answer_id is None or not person.id:
            return {self._thanks: notice(words.NOT_KEPT)}
        try:
            await self._model.rate(answer_id, person.id, verdict, correction)
        except Trouble as trouble:
            LOG.error("a rating could not be stored: %s", trouble)
            return {self._thanks: notice(words.NOT_KEPT)}
        thanks = words.THANKS if correction is None else words.THANKS_CORRECTION
        return {self._thanks: notice(thanks)}
