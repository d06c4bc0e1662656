"""`kawan-usaha data review`."""

from pathlib import Path
from typing import Annotated

import typer
from annotated_types import Ge

from flows.command_line.numbers import integer
from flows.command_line.output import AsJson
from flows.command_line.text_input import require_text
from flows.command_line.which_deployment import DeploymentName, chosen_deployment
from tasks.core.errors import UsageError
from tasks.core.home import home
from tasks.core.serving.state.directory import collected_answers


def review(
    name: DeploymentName = None,
    *,
    show_list: Annotated[
        bool, typer.Option("--list", help="Only list what waits, in the order of review.")
    ] = False,
    limit: Annotated[int, integer("How many answers --list shows.", Ge(1))] = 20,
    accept: Annotated[
        str | None, typer.Option(help="Accept the answer with this ID.", callback=require_text)
    ] = None,
    reject: Annotated[
        str | None, typer.Option(help="Reject the answer with this ID.", callback=require_text)
    ] = None,
    answer_file: Annotated[
        Path | None, typer.Option(help="With --accept: a file with the answer to learn instead.")
    ] = None,
    reviewer: Annotated[
        str | None,
        typer.Option(
            "--as", help="The reviewer's name; by default the user name.", callback=require_text
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Review collected answers one by one, the worst rated first; accepted ones are learned.

    Keys: a(ccept), r(eject), e(dit, in $EDITOR), c (use the person's correction), s(kip), q(uit).
    An accepted answer is learned with the whole conversation before it. Nothing else is learned.

    Example: `kawan-usaha data review demo --list --json`
    """
    options = {"--list": show_list, "--accept": accept is not None, "--reject": reject is not None}
    given = [option for option, is_given in options.items() if is_given]
    if len(given) > 1 or (answer_file is not None and accept is None):
        raise UsageError(
            "These options do not fit together.",
            found=", ".join(given) or "--answer-file without --accept",
            expected="one of --list, --accept and --reject; --answer-file with --accept",
        )
    directory = collected_answers(home(), chosen_deployment(name))
    from flows.actions.review import review_answers

    review_answers(
        directory,
        reviewer,
        accept=accept,
        reject=reject,
        answer_file=answer_file,
        show_list=show_list,
        limit=limit,
        as_json=as_json,
    )
