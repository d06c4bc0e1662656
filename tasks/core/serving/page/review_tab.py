"""The tab on which the team reviews what was collected, and decides what is learned.

The invariant: no conversation is shown or decided on without a reviewer's key, which comes from the
browser with each request and is stored only there.
"""

from dataclasses import dataclass
from typing import Any, Literal

import gradio as gr

from tasks.core.serving.page import words
from tasks.core.serving.page.reviews import NoReview, ReviewedMessage, ReviewItem, Reviews
from tasks.core.serving.page.wishes import notice

Update = dict[Any, Any]

_LONGEST_ANSWER = 60_000


@dataclass(frozen=True)
class _Open:
    """The answer that is shown, and the positions in the list before and after it."""

    item: ReviewItem
    before: str | None
    after: str | None


class ReviewTab:
    """The widgets of the tab, and the handlers of its buttons."""

    def __init__(self, reviews: Reviews) -> None:
        self._reviews = reviews
        gr.Markdown(words.REVIEW_INTRO)
        with gr.Row(elem_id="review-key", elem_classes="card"):
            self._key = gr.Textbox(
                label=words.REVIEW_KEY,
                placeholder=words.REVIEW_KEY_HINT,
                type="password",
                lines=1,
                max_length=512,
                scale=8,
            )
            self._enter = gr.Button(
                words.REVIEW_OPEN, variant="primary", size="md", scale=1, min_width=110
            )
        self._notice = gr.Markdown(visible=False, elem_classes="notice")
        self._open: gr.State = gr.State(None)
        with gr.Column(visible=False, elem_id="review") as self._work:
            self._show_conversation()
            with gr.Column(elem_classes="card"):
                self._show_answer()
                self._show_decision()
        self._connect()

    def _show_conversation(self) -> None:
        self._waiting = gr.Markdown(elem_id="waiting")
        self._chat = gr.Chatbot(
            elem_id="reviewed",
            show_label=False,
            height=None,
            min_height="8rem",
            max_height="min(50vh, 28rem)",
            buttons=[],
            feedback_options=None,
            latex_delimiters=[],
            allow_tags=False,
            layout="bubble",
            autoscroll=True,
        )

    def _show_answer(self) -> None:
        self._verdict = gr.Markdown(elem_id="verdict")
        self._correction = gr.Textbox(
            label=words.THEIR_CORRECTION,
            interactive=False,
            visible=False,
            lines=2,
            max_lines=8,
            buttons=[],
            elem_id="their-correction",
        )
        self._take = gr.Button(words.TAKE_CORRECTION, size="md", visible=False)
        self._answer = gr.Textbox(
            label=words.LEARNED_ANSWER,
            info=words.LEARNED_ANSWER_HINT,
            interactive=True,
            lines=4,
            max_lines=16,
            max_length=_LONGEST_ANSWER,
            elem_id="learned",
        )

    def _show_decision(self) -> None:
        with gr.Row():
            self._accept = gr.Button(
                words.ACCEPT, variant="primary", size="md", min_width=110, elem_id="accept"
            )
            self._reject = gr.Button(
                words.REJECT, variant="stop", size="md", min_width=110, elem_id="reject"
            )
            self._skip = gr.Button(words.SKIP, size="md", min_width=110, elem_id="skip")
        gr.Markdown(words.WHAT_IS_LEARNED, elem_classes="consent")

    def _connect(self) -> None:
        quiet: Any = {"show_progress": "hidden", "api_visibility": "private"}
        outputs = [
            self._open,
            self._work,
            self._notice,
            self._waiting,
            self._chat,
            self._verdict,
            self._correction,
            self._take,
            self._answer,
        ]
        gr.on([self._key.submit, self._enter.click], self.enter, self._key, outputs, **quiet)
        decided = [self._key, self._open, self._answer]
        self._accept.click(self.accept, decided, outputs, **quiet)
        self._reject.click(self.reject, decided, outputs, **quiet)
        self._skip.click(self.skip, [self._key, self._open], outputs, **quiet)
        self._take.click(lambda text: text, self._correction, self._answer, **quiet)

    async def enter(self, key: str) -> Update:
        """Show the first answer."""
        return await self._shown(key, None)

    async def accept(self, key: str, shown: _Open | None, answer: str) -> Update:
        """Accept the answer as it is in the field, and show the next one."""
        return await self._decided(key, shown, "accept", answer)

    async def reject(self, key: str, shown: _Open | None, _answer: str) -> Update:
        """Reject the answer, and show the next one."""
        return await self._decided(key, shown, "reject", None)

    async def skip(self, key: str, shown: _Open | None) -> Update:
        """Show the next one, and after the last one the first one again."""
        told = words.FROM_THE_HEAD if shown is not None and shown.after is None else ""
        return await self._shown(key, None if shown is None else shown.after, told)

    async def _decided(
        self, key: str, shown: _Open | None, decision: Literal["accept", "reject"], text: str | None
    ) -> Update:
        if shown is None:  # the page was open for so long that its state was dropped
            return {self._notice: notice(words.OPEN_AGAIN)}
        if text is not None and not text.strip():
            return {self._notice: notice(words.NOTHING_TO_LEARN)}
        answer = None if text == shown.item.answer else text
        try:
            await self._reviews.decide(key, shown.item, decision, answer)
        except NoReview as no:
            return {self._notice: notice(str(no))}
        told = words.ACCEPTED if decision == "accept" else words.REJECTED
        return await self._shown(key, shown.before, told)

    async def _shown(self, key: str, after: str | None, told: str = "") -> Update:
        """Show the first answer after a position, or else the first of all."""
        try:
            part = await self._reviews.next(key, after)
            if not part.data and after is not None:
                after = None
                part = await self._reviews.next(key, None)
        except NoReview as no:
            return {**self._closed(), self._notice: notice(str(no))}
        if not part.data:
            return {**self._closed(), self._notice: notice(f"{told} {words.NONE_WAIT}".strip())}
        (item,) = part.data
        return {
            self._open: _Open(item, after, part.after),
            self._work: gr.Column(visible=True),
            self._notice: notice(told),
            self._waiting: words.waiting(part.waiting),
            **self._item(item),
        }

    def _item(self, item: ReviewItem) -> Update:
        corrected = item.correction is not None
        said = [_shown(each) for each in item.messages]
        return {
            self._chat: [*said, {"role": "assistant", "content": item.answer}],
            self._verdict: words.rated(item.verdict, cut=item.cut),
            self._correction: gr.Textbox(item.correction or "", visible=corrected),
            self._take: gr.Button(visible=corrected),
            self._answer: item.answer,
        }

    def _closed(self) -> Update:
        """Show no answer."""
        return {
            self._open: None,
            self._work: gr.Column(visible=False),
            self._chat: [],
            self._correction: gr.Textbox("", visible=False),
            self._take: gr.Button(visible=False),
            self._answer: "",
        }


def _shown(turn: ReviewedMessage) -> dict[str, str]:
    """Return a message for the chat, which has no role for system messages."""
    if turn.role == "system":
        return {"role": "assistant", "content": f"{words.SYSTEM_MESSAGE}\n\n{turn.content}"}
    return {"role": turn.role, "content": turn.content}
