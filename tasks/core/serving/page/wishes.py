"""The settings of an answer, in a closed accordion; and the line that tells what happens."""

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
        """What a handler takes them from."""
        return [self.temperature, self.tokens]


def wish(temperature: float, tokens: float) -> Wish:
    """Return what the sliders say, within what an API takes, whoever has sent it."""
    return Wish(min(max(float(temperature), 0.0), 2.0), max(int(tokens), 1))


def notice(text: str = "") -> gr.Markdown:
    """Return the line that tells what there is to know now, gone where there is nothing."""
    return gr.Markdown(text, visible=bool(text))
