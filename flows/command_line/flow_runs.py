"""Run a flow from the command line and print its summary.

Prefect takes seconds to import. So a first line is shown before that, and the flow is imported
while the temporary server starts: hence the imports inside functions.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flows.command_line.output import show
from flows.stage_names import StageName
from flows.terminal.run_log import run_shown
from tasks.core.recipe import Recipe

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State


def run_rebuild(
    recipe: Recipe,
    *,
    from_stage: StageName,
    until: StageName,
    overrides: tuple[str, ...],
    override_gate: str | None,
    name: str,
    as_json: bool,
) -> None:
    """Run the flow `rebuild`. `name` is the recipe's after the overrides."""

    def start() -> "State":
        with _server():
            from flows.lifecycle import rebuild
        return rebuild(
            recipe,
            from_stage=from_stage,
            until=until,
            overrides=overrides,
            override_gate=override_gate,
            return_state=True,
        )

    _run(name, start, as_json=as_json)


def run_learn(
    recipe: str,
    *,
    deployment: str,
    min_new: int,
    max_ratio: float,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run the flow `learn`."""

    def start() -> "State":
        with _server():
            from flows.learn import learn
        return learn(
            recipe,
            deployment=deployment,
            min_new=min_new,
            max_ratio=max_ratio,
            overrides=overrides,
            return_state=True,
        )

    _run(recipe.replace("/", "-"), start, as_json=as_json)


@contextmanager
def _server() -> Iterator[None]:
    """Start a temporary server unless one is configured; wait for it at the end of the block."""
    from flows.prefect_server.temporary_server import start_temporary_server

    wait_for_server = start_temporary_server()
    yield
    wait_for_server()


def _run(name: str, start: Callable[[], "State"], *, as_json: bool) -> None:
    """Show the run while it runs, then its summary, or why it was skipped."""
    with run_shown(name, quiet=as_json):
        state = start()
        result = state.result()
    from flows.rebuild.run_summary import RunSummary, as_plain, as_text

    if isinstance(result, RunSummary):
        show(as_plain(result), as_json=as_json, text=as_text(result))
    else:
        show({"skipped": state.message}, as_json=as_json, text=str(state.message))
