"""The three steps of the article writer, each an answer that grows.

The invariant: whoever stops reading a step ends its generation.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from tasks.core.serving.client.refusals import Cause
from tasks.core.serving.client.turns import Message, without_oldest
from tasks.core.serving.page import article, words
from tasks.core.serving.page.gateway import Model, Progress, Trouble, Wish

_SUMMARY_TOKENS = 160  # one sentence
_TITLES_TOKENS = 240


@dataclass(frozen=True)
class Step:
    """What a step has made so far. told is what there is to say to a person; titles end theirs."""

    text: str
    told: str = ""
    titles: tuple[str, ...] = ()


async def summarized(
    model: Model, conversation: Sequence[Message], wish: Wish
) -> AsyncGenerator[Step, None]:
    """Yield the summary of a conversation. Raises Trouble.

    The oldest turns of one that the model cannot read are left out, and told.
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
                    yield Step(each.text.strip(), _also_cut(told, each))
            return
        except Trouble as trouble:
            shorter = without_oldest(read)
            if trouble.refusal.cause is not Cause.TOO_LONG or shorter is None:
                raise
            read = shorter


async def titled(model: Model, summary: str, wish: Wish) -> AsyncGenerator[Step, None]:
    """Yield the model's answer, and at its end the titles in it. Raises Trouble.

    Where they are not what was asked for, it is asked once more with the fault named; what comes
    then is read with indulgence.
    """
    prompt = article.titles_prompt(summary)
    short = replace(wish, max_tokens=min(wish.max_tokens, _TITLES_TOKENS))
    asked, texts = _user(prompt), list[str]()
    for _ in range(2):
        text = ""
        async with aclosing(model.answer(asked, short)) as answer:
            async for each in answer:
                text = each.text
                yield Step(text)
        try:
            yield Step(text, titles=tuple(article.read_titles(text)))
            return
        except article.NotTitles as fault:
            asked = article.correcting(prompt, text, fault)
            texts.insert(0, text)
    yield _indulgent(texts)


async def written(model: Model, title: str, wish: Wish) -> AsyncGenerator[Step, None]:
    """Yield the article of a title. Raises Trouble."""
    async with aclosing(model.answer(_user(article.article_prompt(title)), wish)) as answer:
        async for each in answer:
            yield Step(each.text.strip(), _also_cut("", each))


def _indulgent(texts: Sequence[str]) -> Step:
    """Return the titles of the first text that holds any."""
    for text in texts:
        if titles := tuple(article.find_titles(text)):
            fewer = words.FEWER_TITLES.format(found=len(titles))
            return Step(text, fewer if len(titles) < article.TITLES else "", titles)
    return Step(texts[0], words.NO_TITLES)


def _also_cut(told: str, progress: Progress) -> str:
    return f"{told} {words.CUT}".strip() if progress.cut else told


def _user(prompt: str) -> list[Message]:
    return [{"role": "user", "content": prompt}]
