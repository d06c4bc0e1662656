"""The settings of an answer, in a closed accordion, and the line for messages."""

import logging

import gradio as gr

from tasks.core.serving.page import words
from tasks.core.serving.page.gateway import Wish

LOG = logging.getLogger(__name__)


class Wishes:
    """Two sliders."""

    def __init__(self, usual_tokens: int) -> None:
        with gr.Accordion(words.SETTINGS, open=False):
            self.temperature = gr.Slider(
                0,
                1.5,
                0.7,
                step=0.1,
                label=words.TEMPERATURE,
                info=words.TEMPERATURE_HINT,
                buttons=[],
            )
            self.tokens = gr.Slider(
                32,
                2048,
                usual_tokens,
                step=32,
                label=words.LENGTH,
                info=words.LENGTH_HINT,
                buttons=[],
            )

    @property
    def inputs(self) -> list[gr.Slider]:
        """The inputs for a handler."""
        return [self.temperature, self.tokens]


def wish(temperature: float, tokens: float) -> Wish:
    """Return the values of the sliders, limited to what the API accepts."""
    return Wish(min(max(float(temperature), 0.0), 2.0), max(int(tokens), 1))


def notice(text: str = "") -> gr.Markdown:
    """Return the line with a message, hidden without one."""
    return gr.Markdown(text, visible=bool(text))
