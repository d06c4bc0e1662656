"""`kawan-usaha data review`: what people agreed to have kept, and what the team decides of it."""

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from annotated_types import Ge

from flows.commands.deployments import Name, the_one
from flows.commands.numbers import integer
from flows.commands.output import AS_JSON, show
from flows.commands.words import typed

if TYPE_CHECKING:
    from tasks.core.collected.reading import Collected
    from tasks.core.collected.reviewing import Listing


def add_to(data: typer.Typer) -> None:
    """Add the command to those of `data`."""
    data.command()(review)


def review(
    name: Name = None,
    *,
    show_list: Annotated[
        bool, typer.Option("--list", help="Only show what waits, in the order of review.")
    ] = False,
    limit: Annotated[int, integer("How many --list shows.", Ge(1))] = 20,
    accept: Annotated[
        str | None, typer.Option(help="Accept the answer of this id.", callback=typed)
    ] = None,
    reject: Annotated[
        str | None, typer.Option(help="Reject the answer of this id.", callback=typed)
    ] = None,
    answer_file: Annotated[
        Path | None, typer.Option(help="With --accept: what is learned in its place.")
    ] = None,
    reviewer: Annotated[
        str | None,
        typer.Option("--as", help="Who decides; by default who is logged in.", callback=typed),
    ] = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Read collected answers one by one, the worst rated first, and say what is learned of them.

    Keys: a(ccept), r(eject), e(dit, in $EDITOR), c (take the person's correction), s(kip), q(uit).
    An accepted answer is learned with the whole conversation before it. Nothing else is.

    Example: `kawan-usaha data review demo --list --json`
    """
    from tasks.core.errors import UsageError

    wanted = [word for word, given in _wanted(show_list, accept, reject).items() if given]
    if len(wanted) > 1 or (answer_file is not None and accept is None):
        raise UsageError(
            "These options do not fit together.",
            found=", ".join(wanted) or "--answer-file without --accept",
            expected="one of --list, --accept and --reject; --answer-file with --accept",
        )
    directory = _collected(the_one(name))
    who = _reviewer(reviewer)
    if accept is not None:
        text = None if answer_file is None else _answer_in(answer_file)
        _decide(directory, who, accept, accepted=True, text=text, as_json=as_json)
    elif reject is not None:
        _decide(directory, who, reject, accepted=False, text=None, as_json=as_json)
    elif show_list or as_json:
        from tasks.core.collected.reviewing import to_review

        found = to_review(directory, limit=limit)
        show(_plain(found), as_json=as_json, text=_lines(found))
    else:
        from flows.commands.data_review_terminal import review_in_terminal

        review_in_terminal(directory, who)


def _wanted(show_list: bool, accept: str | None, reject: str | None) -> dict[str, bool]:
    return {
        "--list": show_list,
        "--accept": accept is not None,
        "--reject": reject is not None,
    }


def _collected(name: str) -> Path:
    from tasks.core.home import home
    from tasks.core.serving.state.directory import collected_answers

    return collected_answers(home(), name)


def _reviewer(given: str | None) -> str:
    from tasks.core.errors import UsageError

    try:
        who = given if given is not None else getpass.getuser()
    except (KeyError, OSError):  # a user of this number has no name
        who = ""
    if not who.strip() or not who.isprintable():
        raise UsageError(
            "Who decides has no name.", found=repr(who), next_step="Give one with --as NAME."
        )
    return who.strip()


def _answer_in(file: Path) -> str:
    from tasks.core.errors import UsageError
    from tasks.core.files.foreign import read_whole

    try:
        return read_whole(file, error=UsageError).decode("utf-8-sig").strip()
    except FileNotFoundError:
        raise UsageError("There is no such file.", where=file) from None
    except UnicodeDecodeError as error:
        raise UsageError("The answer is not UTF-8.", where=file, found=str(error)) from error


def _decide(
    directory: Path, who: str, answer_id: str, *, accepted: bool, text: str | None, as_json: bool
) -> None:
    from tasks.core.collected.reviewing import Opinion, decide, look

    earlier = look(directory, answer_id).review
    seen = None if earlier is None else earlier.time
    opinion = Opinion(answer_id, "accept" if accepted else "reject", text, seen)
    made = decide(directory, opinion, who)
    edited = ", with another answer" if made.answer is not None else ""
    told = f"{answer_id}: {made.decision}ed by {who}{edited}"
    result = made.model_dump(mode="json", exclude={"kind", "person"})
    show(result, as_json=as_json, text=told)


def _plain(found: "Listing") -> dict[str, object]:
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


def _verdict(found: "Collected") -> str | None:
    return None if found.rating is None else found.rating.verdict


def _lines(found: "Listing") -> str:
    from flows.commands.data_review_terminal import in_one_line

    rows = [
        f"{each.answer.id}  {each.answer.time:%F %R}  {_verdict(each) or '-':<4}  "
        f"{in_one_line(each.answer.messages[-1].content)}"
        for each in found.items
    ]
    more = found.waiting - len(found.items)
    rows += [f"and {more} more"] if more > 0 else []
    return "\n".join(rows) or "No answer waits for a review."
