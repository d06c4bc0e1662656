"""The page as an application: its tabs, and the middleware in front.

By default gradio sends statistics, loads fonts, and links to its makers; all of that is disabled.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from html import escape

import gradio as gr
from fastapi import FastAPI
from starlette.types import ASGIApp

from tasks.core.serving.page import words
from tasks.core.serving.page.article_tab import ArticleTab
from tasks.core.serving.page.chat_tab import ChatTab
from tasks.core.serving.page.examples import ExamplePrompt
from tasks.core.serving.page.gateway import ServedModel
from tasks.core.serving.page.look import CSS, theme
from tasks.core.serving.page.middleware import PageMiddleware
from tasks.core.serving.page.review_tab import ReviewTab
from tasks.core.serving.page.reviews import Reviews
from tasks.core.serving.page.settings import PageSettings


def page_app(settings: PageSettings, examples: Sequence[ExamplePrompt]) -> ASGIApp:
    """Return the application, which offers these examples."""
    api = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gr.mount_gradio_app(
        api,
        _blocks(settings, examples),
        path="/",
        server_name=settings.host,
        server_port=settings.port,
        footer_links=[],
        run_history=False,  # it would store conversations in the browser
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
        show_error=False,
        max_file_size=1,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=CSS,
    )
    return PageMiddleware(api, settings)


def _blocks(settings: PageSettings, examples: Sequence[ExamplePrompt]) -> gr.Blocks:
    model = ServedModel(settings.base_url, settings.model_name)
    blocks = gr.Blocks(title=settings.title, analytics_enabled=False)
    with blocks:
        gr.HTML(f"<h1>{escape(settings.title)}</h1><p>{words.TAGLINE}</p>", elem_id="heading")
        with gr.Tabs():
            with gr.Tab(words.CHAT_TAB):
                talk = ChatTab(model, examples, kept_days=settings.kept_days)
            with gr.Tab(words.ARTICLE_TAB):
                ArticleTab(model, talk.chat)
            if settings.kept_days is not None:
                with gr.Tab(words.REVIEW_TAB):
                    ReviewTab(Reviews(settings.base_url))
        gr.Markdown(words.CAUTION, elem_id="caution")
        talk.connect(blocks)
        blocks.load(_stay, show_progress="hidden", api_visibility="private", concurrency_limit=None)
    # gradio keeps 130 kB for each of its last 10,000 visitors, 1.3 GB in all. Only those reading an
    # answer are needed, since the browser has the conversation. What is lost is the rating of an
    # answer that is corrected after that many others came; the rating is already stored by itself.
    blocks.state_session_capacity = settings.max_answers
    # The gateway refuses in Indonesian before this queue is full; gradio would in English.
    blocks.queue(
        api_open=False,
        max_size=settings.max_answers,
        default_concurrency_limit=settings.max_answers,
    )
    return blocks


async def _stay() -> AsyncGenerator[None, None]:
    """Run for as long as the page is open.

    gradio closes its stream to the browser whenever nothing is in progress. An event that starts at
    that moment is lost, and its button waits for ever, as seen on a busy machine.
    """
    while True:
        yield
        await asyncio.sleep(3600)
