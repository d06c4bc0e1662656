"""Deploy: the released model behind an OpenAI-compatible address."""

from pathlib import Path

from tasks.core.evaluation.prompts import for_comparison
from tasks.core.home import home
from tasks.core.measure import measured
from tasks.core.recipe_deploy import Deploy
from tasks.core.serving.deployment import deploy as start
from tasks.core.serving.record import Switched
from tasks.progress import say
from tasks.runtime import StageResult, run_store, stage_task
from tasks.telling import show_markdown


def _name(settings: Deploy, **_: object) -> str:
    return f"{settings.model_name} on {settings.gateway.host}:{settings.gateway.port}"


@stage_task("deploy", _name)
def deploy(
    model: StageResult, settings: Deploy, name: str, template: str, prompts: Path
) -> StageResult:
    """Start the servers, unless this build runs and answers already."""
    from tasks.core.architecture.promise import expected_report

    with run_store().present([model.artifact]), measured() as cost:
        deployment = start(
            model.path,
            settings,
            name=name,
            template=template,
            home=home(),
            build=model.artifact,
            expected_edit=expected_report(model.path),
            prompts=for_comparison(prompts),
            say=say,
        )
    if deployment.switched is not None:
        text = taken_over(deployment.switched)
        show_markdown(text, key="deploy", description="How the model took over")
    return StageResult.after(
        model, "deploy", cost, cached=deployment.reused, url=deployment.base_url
    )


def taken_over(switched: Switched) -> str:
    """Return how a deployment took over, and its answers beside the earlier one's, as Markdown."""
    lines = _how(switched)
    lines += ["", switched.not_asked] if switched.not_asked else []
    if switched.shadow:
        lines += ["", switched.compared]
    for each in switched.shadow:
        lines += ["", f"> {_line(each.asked)}", ""]
        lines += [] if each.earlier is None else [f"- earlier: {_line(each.earlier)}"]
        lines += [f"- new: {_line(each.new)}"]
    return "\n".join(lines)


def _how(switched: Switched) -> list[str]:
    if switched.how == "first":
        return ["Nothing served before, or at another address."]
    return [
        "The earlier model served until this one was proven."
        if switched.how == "side-by-side"
        else f"Clients were told to come back for {switched.gap_s:.0f} s.",
        f"{switched.cut_off or 'None'} of the earlier model's last answers had to be ended.",
    ]


def _line(text: str) -> str:
    return " ".join(text.split())
