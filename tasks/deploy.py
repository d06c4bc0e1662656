"""Deploy: serve the released model at an OpenAI-compatible address."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tasks.core.errors import CorruptArtifact
from tasks.core.evaluation.prompts import for_comparison
from tasks.core.home import home
from tasks.core.recipe.deploy import Deploy
from tasks.core.serving.launch.deployment import deploy as start
from tasks.core.serving.state.record import Switched
from tasks.core.signing import public_keys
from tasks.core.store.checks import wrong_content
from tasks.core.store.signed import require_signed
from tasks.core.system.measure import measured
from tasks.outbox import show_markdown
from tasks.progress import log_line
from tasks.runtime import run_store, stage_task
from tasks.stage_result import StageResult


def _name(settings: Deploy, **_: object) -> str:
    return f"{settings.model_name} on {settings.gateway.host}:{settings.gateway.port}"


@stage_task("deploy", _name)
def deploy(
    model: StageResult, settings: Deploy, name: str, template: str, prompts: Path
) -> StageResult:
    """Start the servers, unless this build already runs and answers."""
    from tasks.core.architecture.promise import expected_report  # needs torch

    store = run_store()
    with (
        _set_aside_when_damaged(model.artifact, settings),
        store.present([model.artifact]),
        measured() as cost,
    ):
        if settings.signed_by is not None:
            require_signed(store, model.artifact, public_keys(settings.signed_by))
        deployment = start(
            model.path,
            settings,
            name=name,
            template=template,
            home=home(),
            build=model.artifact,
            expected_edit=expected_report(model.path),
            prompts=for_comparison(prompts),
            require_whole=partial(_require_whole, model.artifact, settings),
            say=log_line,
        )
    if deployment.switched is not None:
        text = taken_over(deployment.switched)
        show_markdown(text, key="deploy", description="How the model took over")
    return StageResult.after(
        model, "deploy", cost, cached=deployment.reused, url=deployment.base_url
    )


def _require_whole(artifact: str, settings: Deploy) -> None:
    """Raise CorruptArtifact unless every byte is as signed, if the recipe requires a signature."""
    if settings.signed_by is None:
        return
    log_line(f"{artifact} is signed; reading all of it before it serves")
    directory = run_store().root / artifact
    if problems := list(wrong_content(directory)):
        raise CorruptArtifact(
            "The artifact is damaged.", where=directory, found="; ".join(problems)
        )


@contextmanager
def _set_aside_when_damaged(artifact: str, settings: Deploy) -> Iterator[None]:
    """Set the artifact aside if the block finds it damaged."""
    try:
        yield
    except CorruptArtifact:
        store = run_store()
        found = None if settings.signed_by is None else store.named(artifact)
        if found is not None:
            store.require_content(found)
        raise


def taken_over(switched: Switched) -> str:
    """Return how a deployment took over and how its answers compare, as Markdown."""
    lines = _how(switched)
    lines += ["", switched.not_asked] if switched.not_asked else []
    if switched.shadow:
        lines += ["", switched.compared]
    for each in switched.shown:
        lines += ["", f"> {_line(each.asked)}", ""]
        lines += [] if each.earlier is None else [f"- earlier: {_line(each.earlier)}"]
        lines += [f"- new: {_line(each.new)}"]
    return "\n".join(lines)


def _how(switched: Switched) -> list[str]:
    if switched.how == "first":
        return ["Nothing was served before, or at another address."]
    return [
        "The earlier model served until this one was proven."
        if switched.how == "side-by-side"
        else f"Clients were told to retry later for {switched.gap_s:.0f} s.",
        f"{switched.cut_off or 'None'} of the earlier model's last answers had to be cut off.",
    ]


def _line(text: str) -> str:
    return " ".join(text.split())
