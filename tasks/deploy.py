"""Deploy: the released model behind an OpenAI-compatible server."""

from prefect import get_run_logger

from tasks.core.architecture.promise import expected_report
from tasks.core.home import home
from tasks.core.measure import measured
from tasks.core.recipe import Deploy
from tasks.core.serving.deployment import deploy as start
from tasks.runtime import StageResult, stage_task


@stage_task("deploy")
def deploy(model: StageResult, settings: Deploy, name: str, template: str) -> StageResult:
    """Start the servers, unless this build runs and answers already."""
    with measured() as cost:
        deployment = start(
            model.path,
            settings,
            name=name,
            template=template,
            home=home(),
            build=model.artifact,
            expected_edit=expected_report(model.path),
            say=get_run_logger().info,
        )
    return StageResult.after(
        model, "deploy", cost, cached=deployment.reused, url=deployment.base_url
    )
