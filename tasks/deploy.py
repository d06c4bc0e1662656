"""Deploy: the released model behind an OpenAI-compatible server."""

from tasks.core.home import home
from tasks.core.measure import measured
from tasks.core.recipe import Deploy
from tasks.core.serving.deployment import deploy as start
from tasks.progress import say
from tasks.runtime import StageResult, run_store, stage_task


def _name(settings: Deploy, **_: object) -> str:
    return f"{settings.model_name} on {settings.host}:{settings.api_port}"


@stage_task("deploy", _name)
def deploy(model: StageResult, settings: Deploy, name: str, template: str) -> StageResult:
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
            say=say,
        )
    return StageResult.after(
        model, "deploy", cost, cached=deployment.reused, url=deployment.base_url
    )
