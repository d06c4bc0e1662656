"""The notices of a rebuild: how it ended, and why."""

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from flows.rebuild.run_summary import RunSummary, outcome_line, stages_done
from tasks.core.errors import GateFailed, KawanUsahaError
from tasks.notices import Notice, NoticeEvent


def success_notice(report: RunSummary) -> Notice:
    """Return the notice of a successful rebuild; it is UNCHANGED if every stage was cached."""
    done = [stage.stage for stage in report.stages if not stage.cached]
    released = {stage.stage: stage.facts.get("url") for stage in report.stages}
    facts: dict[str, JsonValue] = {
        "passed": report.verdict.passed if report.verdict is not None else None,
        "published": released.get("publish"),
        "served": released.get("deploy"),
    }
    return _ended_well(report.recipe.name, done, outcome_line(report), facts)


def stages_notice(recipe: str, said: Mapping[str, str]) -> Notice:
    """Return the notice of a rebuild whose stages were separate runs; `said` has their messages.

    The message of the last stage says where the model is.
    """
    done = [stage for stage, words in said.items() if not words.startswith(stages_done([]))]
    outcome = list(said.values())[-1].partition(". ")[2]
    return _ended_well(recipe, done, f"{stages_done(done)} {outcome}".rstrip(), {})


def _ended_well(
    name: str, done: Sequence[str], text: str, facts: Mapping[str, JsonValue]
) -> Notice:
    what = NoticeEvent.SUCCEEDED if done else NoticeEvent.UNCHANGED
    title = f"{name}: rebuilt" if done else f"{name}: nothing new"
    return Notice(what, "recipe", name, title, text, {"done": list(done), **facts})


def failure_notice(recipe: str, error: Exception) -> Notice:
    """Return why a rebuild failed; a model that its gate refused is REFUSED.

    Of an unexplained exception only the name is given: its text may hold anything.
    """
    if isinstance(error, GateFailed):
        title = f"{recipe}: refused by its gate"
        return Notice(NoticeEvent.REFUSED, "recipe", recipe, title, str(error), error.as_dict())
    title = f"{recipe}: the rebuild failed"
    if isinstance(error, KawanUsahaError):
        return Notice(NoticeEvent.FAILED, "recipe", recipe, title, str(error), error.as_dict())
    text = f"An error in kawan-usaha: {type(error).__name__}. The run's log holds the traceback."
    return Notice(
        NoticeEvent.FAILED, "recipe", recipe, title, text, {"error": type(error).__name__}
    )
