"""List the collected answers that wait for a review, or decide about one of them."""

import getpass
from pathlib import Path

from flows.actions.review_terminal import first_line
from flows.command_line.output import show
from tasks.core.collected.review.queue import Listing, NewReview, decide, find_for_review, to_review
from tasks.core.collected.review.reading import Collected
from tasks.core.errors import UsageError
from tasks.core.files.foreign import read_whole


def reviewer_name(given: str | None) -> str:
    """Return the given name, or the user name. Raises UsageError if it is none."""
    try:
        who = given if given is not None else getpass.getuser()
    except (KeyError, OSError):  # the user ID has no name
        who = ""
    if not who.strip() or not who.isprintable():
        raise UsageError(
            "The reviewer has no name.", found=repr(who), next_step="Give one with --as NAME."
        )
    return who.strip()


def decide_one(
    directory: Path,
    who: str,
    answer_id: str,
    *,
    accepted: bool,
    answer_file: Path | None = None,
    as_json: bool,
) -> None:
    """Accept an answer, or the one in a file in its place, or reject it; print the decision."""
    text = None if answer_file is None else _answer_in(answer_file)
    earlier = find_for_review(directory, answer_id).review
    seen = None if earlier is None else earlier.time
    opinion = NewReview(answer_id, "accept" if accepted else "reject", text, seen)
    made = decide(directory, opinion, who)
    edited = ", with another answer" if made.answer is not None else ""
    result = made.model_dump(mode="json", exclude={"kind", "person"})
    show(result, as_json=as_json, text=f"{answer_id}: {made.decision}ed by {who}{edited}")


def list_waiting(directory: Path, *, limit: int, as_json: bool) -> None:
    """Print the answers that wait, in the order of review."""
    found = to_review(directory, limit=limit)
    show(_plain(found), as_json=as_json, text=_lines(found))


def _answer_in(file: Path) -> str:
    try:
        return read_whole(file, error=UsageError).decode("utf-8-sig").strip()
    except FileNotFoundError:
        raise UsageError("There is no such file.", where=file) from None
    except UnicodeDecodeError as error:
        raise UsageError("The answer is not UTF-8.", where=file, found=str(error)) from error


def _plain(found: Listing) -> dict[str, object]:
    return {
        "waiting": found.waiting,
        "answers": [
            {
                "id": each.answer.id,
                "time": each.answer.time,
                "model": each.answer.model,
                "build": each.answer.build,
                "messages": [message.model_dump() for message in each.answer.messages],
                "answer": each.answer.answer,
                "verdict": _verdict(each),
                "correction": None if each.rating is None else each.rating.correction,
            }
            for each in found.items
        ],
    }


def _verdict(found: Collected) -> str | None:
    return None if found.rating is None else found.rating.verdict


def _lines(found: Listing) -> str:
    rows = [
        f"{each.answer.id}  {each.answer.time:%F %R}  {_verdict(each) or '-':<4}  "
        f"{first_line(each.answer.messages[-1].content)}"
        for each in found.items
    ]
    more = found.waiting - len(found.items)
    rows += [f"and {more} more"] if more > 0 else []
    return "\n".join(rows) or "No answer waits for a review."
