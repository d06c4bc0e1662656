"""How a rebuild has ended, and how the services are, in words for somebody who is not there."""

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from flows.report import RebuildReport, done_words, summary
from tasks.core.errors import GateFailed, KawanUsahaError
from tasks.core.serving.observe.healing import Looked
from tasks.notices import Happening, Notice


def of_success(report: RebuildReport) -> Notice:
    """Return what a rebuild has come to; one that found everything done is UNCHANGED."""
    done = [stage.stage for stage in report.stages if not stage.cached]
    released = {stage.stage: stage.facts.get("url") for stage in report.stages}
    facts: dict[str, JsonValue] = {
        "passed": report.verdict.passed if report.verdict is not None else None,
        "published": released.get("publish"),
        "served": released.get("deploy"),
    }
    return _ended_well(report.recipe.name, done, summary(report), facts)


def of_stages(recipe: str, said: Mapping[str, str]) -> Notice:
    """Return what a rebuild whose stages were runs of their own has come to; said is theirs.

    The last one says where the model is.
    """
    done = [stage for stage, words in said.items() if not words.startswith(done_words([]))]
    outcome = list(said.values())[-1].partition(". ")[2]
    return _ended_well(recipe, done, f"{done_words(done)} {outcome}".rstrip(), {})


def _ended_well(
    name: str, done: Sequence[str], text: str, facts: Mapping[str, JsonValue]
) -> Notice:
    what = Happening.SUCCEEDED if done else Happening.UNCHANGED
    title = f"{name}: rebuilt" if done else f"{name}: nothing new"
    return Notice(what, "recipe", name, title, text, {"done": list(done), **facts})


def of_failure(recipe: str, error: Exception) -> Notice:
    """Return why a rebuild has failed; a model that its gate refuses is REFUSED.

    Of an exception that nobody has explained only the name is told: its text may hold anything.
    """
    if isinstance(error, GateFailed):
        title = f"{recipe}: refused by its gate"
        return Notice(Happening.REFUSED, "recipe", recipe, title, str(error), error.as_dict())
    title = f"{recipe}: the rebuild failed"
    if isinstance(error, KawanUsahaError):
        return Notice(Happening.FAILED, "recipe", recipe, title, str(error), error.as_dict())
    text = f"A fault of kawan-usaha: {type(error).__name__}. The run's log holds the traceback."
    return Notice(Happening.FAILED, "recipe", recipe, title, text, {"error": type(error).__name__})


def of_services(looks: Sequence[Looked]) -> list[Notice]:
    """Return one notice for each service that is down, or was: nothing for those that answer."""
    notices = []
    for each in looks:
        if each.outcome == "healed":
            title, what = f"{each.name}: was down, serves again", Happening.HEALED
        elif each.outcome != "healthy":
            title, what = f"{each.name}: does not serve", Happening.DOWN
        else:
            continue
        facts = {"outcome": each.outcome}
        notices.append(Notice(what, "service", each.name, title, each.words, facts))
    return notices
