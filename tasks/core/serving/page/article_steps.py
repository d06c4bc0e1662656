"""The three steps of the article writer, each a streamed answer.

The invariant: closing a step stops its generation.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from tasks.core.serving.client.failures import FailureCause
from tasks.core.serving.client.turns import ChatMessage, without_oldest
from tasks.core.serving.page import article, words
from tasks.core.serving.page.gateway import Progress, ServedModel, Trouble, Wish

_SUMMARY_TOKENS = 160  # one sentence
_TITLES_TOKENS = 240


@dataclass(frozen=True)
class ArticleStep:
    """The result of a step so far. told is a message for the person; titles come at the end."""

    text: str
    told: str = ""
    titles: tuple[str, ...] = ()


async def summarized(
    model: ServedModel, conversation: Sequence[ChatMessage], wish: Wish
) -> AsyncGenerator[ArticleStep, None]:
    """Yield the summary of a conversation. Raises Trouble.

    If it is too long, the oldest messages are left out, with a message.
    """
    read, short = (
        list(conversation),
        replace(wish, max_tokens=min(wish.max_tokens, _SUMMARY_TOKENS)),
    )
    while True:
        gone = len(conversation) - len(read)
        told = words.left_out(gone) if gone else ""
        asked = _user(article.summary_prompt(read))
        try:
            async with aclosing(model.answer(asked, short)) as answer:
                async for each in answer:
                    yield ArticleStep(each.text.strip(), _also_cut(told, each))
            return
        except Trouble as trouble:
            shorter = without_oldest(read)
            if trouble.failure.cause is not FailureCause.TOO_LONG or shorter is None:
                raise
            read = shorter


async def titled(model: ServedModel, summary: str, wish: Wish) -> AsyncGenerator[ArticleStep, None]:
    """Yield the model's answer, and at the end its titles. Raises Trouble.

    If they are not in the requested form, the model is asked once more with the fault named; then
    any form is accepted.
    """
    prompt = article.titles_prompt(summary)
    short = replace(wish, max_tokens=min(wish.max_tokens, _TITLES_TOKENS))
    asked, texts = _user(prompt), list[str]()
    for _ in range(2):
        text = ""
        async with aclosing(model.answer(asked, short)) as answer:
            async for each in answer:
                text = each.text
                yield ArticleStep(text)
        try:
            yield ArticleStep(text, titles=tuple(article.read_titles(text)))
            return
        except article.NotTitles as fault:
            asked = article.correcting(prompt, text, fault)
            texts.insert(0, text)
    yield _indulgent(texts)


async def written(model: ServedModel, title: str, wish: Wish) -> AsyncGenerator[ArticleStep, None]:
    """Yield the article of a title. Raises Trouble."""
    async with aclosing(model.answer(_user(article.article_prompt(title)), wish)) as answer:
        async for each in answer:
            yield ArticleStep(each.text.strip(), _also_cut("", each))


def _indulgent(texts: Sequence[str]) -> ArticleStep:
    """Return the titles of the first text that contains any."""
    for text in texts:
        if titles := tuple(article.find_titles(text)):
            fewer = words.FEWER_TITLES.format(found=len(titles))
            return ArticleStep(text, fewer if len(titles) < article.TITLES else "", titles)
    return ArticleStep(texts[0], words.NO_TITLES)


def _also_cut(told: str, progress: Progress) -> str:
    return f"{told} {words.CUT}".strip() if progress.cut else told


def _user(prompt: str) -> list[ChatMessage]:
    return [{"role": "user", "content": prompt}]
