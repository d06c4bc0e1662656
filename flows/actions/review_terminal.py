"""Review collected answers in the terminal, one at a time, by keys.

What people wrote is shown without the control characters that a terminal would act on.
"""

import re
from pathlib import Path

import click
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from flows.command_line.text_input import read_line
from tasks.core.collected.review.queue import NewReview, Rank, decide, to_review
from tasks.core.collected.review.reading import Collected
from tasks.core.errors import DecidedMeanwhile, MissingTool, NotCollected, UsageError

_KEYS = "a(ccept), r(eject), e(dit), {take}s(kip), q(uit): "
_ACTED_ON = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that move the cursor, start an escape sequence or change the writing direction."""
_STYLES = {"user": "cyan", "assistant": "green", "system": "dim"}
_LINE = 60


def review_in_terminal(directory: Path, who: str) -> None:
    """Show answer after answer until all are reviewed or the reviewer quits. Raises LockBusy."""
    console = Console(highlight=False, soft_wrap=True)
    after: Rank | None = None
    while True:
        listing = to_review(directory, limit=1, after=after)
        if not listing.items:
            skipped = f"; {listing.waiting} were skipped" if listing.waiting else ""
            console.print(f"No more answers wait{skipped}.")
            return
        (found,) = listing.items
        console.print(Rule(f"{listing.waiting} waiting · {found.answer.id}"))
        _show(console, found)
        if not _asked(console, directory, who, found):
            return
        after = Rank.of(found)


def first_line(text: str) -> str:
    """Return the beginning of a text, in one line."""
    line = " ".join(printable(text).split())
    return line if len(line) <= _LINE else f"{line[: _LINE - 1]}…"


def printable(text: str) -> str:
    """Return the text with a replacement character for what a terminal would act on."""
    return _ACTED_ON.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def _show(console: Console, found: Collected) -> None:
    for message in found.answer.messages:
        _say(console, message.role, message.content)
    _say(console, "assistant", found.answer.answer)
    if found.answer.cut:
        console.print(Text("cut off: it reached the limit of tokens", "bold red"))
    rating = found.rating
    if rating is not None and rating.verdict is not None:
        console.print(Text(f"rated: {rating.verdict}", "bold"))
    if rating is not None and rating.correction is not None:
        _say(console, "correction", rating.correction)


def _say(console: Console, who: str, text: str) -> None:
    console.print(Text(f"{who}: ", "bold"), Text(printable(text), _STYLES.get(who, "yellow")))
    console.print()


def _asked(console: Console, directory: Path, who: str, found: Collected) -> bool:
    """Ask what to do with one answer and do it; return whether to continue."""
    correction = None if found.rating is None else found.rating.correction
    keys = _KEYS.format(take="" if correction is None else "c (take the correction), ")
    text: str | None = None
    while True:
        word = read_line(keys).lower()
        if word in ("q", "quit", ""):  # also where the input ends
            return False
        if word in ("s", "skip"):
            return True
        if word in ("e", "edit"):
            text = _edited(found.answer.answer if text is None else text)
            _say(console, "to be learned", text)
        elif word == "c" and correction is not None:
            text = correction
            _say(console, "to be learned", text)
        elif word in ("a", "accept", "r", "reject"):
            seen = None if found.review is None else found.review.time
            opinion = (
                NewReview(found.answer.id, "accept", text, seen)
                if word[0] == "a"
                else NewReview(found.answer.id, "reject", None, seen)
            )
            _decided(console, directory, who, opinion)
            return True


def _decided(console: Console, directory: Path, who: str, opinion: NewReview) -> None:
    try:
        decide(directory, opinion, who)
    except (DecidedMeanwhile, NotCollected, UsageError) as error:
        console.print(Text(str(error), "red"))


def _edited(text: str) -> str:
    """Return the text from the editor, or as it was if nothing was saved."""
    try:
        written = click.edit(text)
    except click.ClickException as error:
        raise MissingTool(
            "The editor failed.",
            found=error.format_message(),
            next_step="Name another in EDITOR, such as `EDITOR=nano`.",
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError("The text from the editor is not UTF-8.", found=str(error)) from error
    return text if written is None else written.strip()
