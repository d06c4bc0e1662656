"""Deploy: the released model behind an OpenAI-compatible server."""

from tasks.core.architecture.promise import expected_report
from tasks.core.home import home
from tasks.core.recipe import Deploy
from tasks.core.serving.deployment import deploy as start
from tasks.runtime import StageResult, stage_task


@stage_task("deploy")
def deploy(model: StageResult, settings: Deploy, name: str, template: str) -> StageResult:
    """Start the servers, unless this build runs and answers already."""
    deployment = start(
        model.path,
        settings,
        name=name,
        template=template,
        home=home(),
        build=model.artifact,
        expected_edit=expected_report(model.path),
    )
    return model.model_copy(
        update={
            "stage": "deploy",
            "cached": deployment.reused,
            "facts": {"url": deployment.base_url, "model": settings.model_name},
        }
    )
