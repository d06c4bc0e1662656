"""Review collected answers: list what waits, decide about one, or all in the terminal."""

import getpass
from pathlib import Path

from flows.actions.review_terminal import first_line, review_in_terminal
from flows.command_line.output import show
from tasks.core.collected.review.queue import Listing, NewReview, decide, find_for_review, to_review
from tasks.core.collected.review.reading import Collected
from tasks.core.errors import UsageError
from tasks.core.files.foreign import read_whole


def review_answers(
    directory: Path,
    reviewer: str | None,
    *,
    accept: str | None,
    reject: str | None,
    answer_file: Path | None,
    show_list: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Accept or reject the answer with an ID, list what waits, or ask about each in the terminal.

    Without `reviewer` the user name is recorded. Raises UsageError if it is none.
    """
    who = _name(reviewer)
    if accept is not None:
        _decide_one(directory, who, accept, accepted=True, answer_file=answer_file, as_json=as_json)
    elif reject is not None:
        _decide_one(directory, who, reject, accepted=False, as_json=as_json)
    elif show_list or as_json:
        _list_waiting(directory, limit=limit, as_json=as_json)
    else:
        review_in_terminal(directory, who)


def _name(given: str | None) -> str:
    try:
        who = given if given is not None else getpass.getuser()
    except (KeyError, OSError):  # the user ID has no name
        who = ""
    if not who.strip() or not who.isprintable():
        raise UsageError(
            "The reviewer has no name.", found=repr(who), next_step="Give one with --as NAME."
        )
    return who.strip()


def _decide_one(
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


def _list_waiting(directory: Path, *, limit: int, as_json: bool) -> None:
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
