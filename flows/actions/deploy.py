"""Deploy a model, start or roll back a deployment, and wait for its end."""

import time
from functools import partial

import typer

from flows.actions.local_models import local_model, require_signed
from tasks.core.architecture.promise import expected_report
from tasks.core.evaluation.prompts import for_comparison
from tasks.core.home import home
from tasks.core.model.template_record import template_for
from tasks.core.recipe import Evaluate
from tasks.core.recipe.deploy import Deploy
from tasks.core.recipe.file import project_path
from tasks.core.serving.launch.deployment import deploy, rollback, start
from tasks.core.serving.launch.ending import pause
from tasks.core.serving.state.directory import state_directory
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.supervision.processes import own_processes
from tasks.core.store.manifest import manifest_of

_say = partial(typer.echo, err=True)


def deploy_local(model: str, settings: Deploy, *, name: str, template: str | None) -> Deployment:
    """Deploy a directory, or a repository after its download."""
    with local_model(model, settings.signed_by) as path:
        manifest = manifest_of(path)
        return deploy(
            path,
            settings,
            name=name,
            template=template_for(path, template),
            home=home(),
            build=str(manifest.stage_key) if manifest else str(path.resolve()),
            expected_edit=expected_report(path),
            prompts=for_comparison(project_path(Evaluate().prompts)),
            say=_say,
        )


def start_again(name: str) -> Deployment:
    """Start a deployment whose processes have ended."""
    return start(home(), name, require=_require_still_signed, say=_say)


def roll_back(name: str) -> Deployment:
    """Serve the earlier model of a deployment again."""
    return rollback(home(), name, require=_require_still_signed, say=_say)


def wait_for_end(name: str) -> None:
    """Wait until the processes of a deployment have ended; end them on SIGTERM and Ctrl-C.

    Raises typer.Exit with code 1 then: nobody asked for it to end.
    """
    try:
        while own_processes(state_directory(home(), name).root):
            time.sleep(1.0)
    finally:
        pause(home(), name)
    raise typer.Exit(1)


def _require_still_signed(record: Deployment) -> None:
    """Raise unless the model of a record is what was signed, if its settings ask for that."""
    signed_by = record.settings.signed_by
    if signed_by is not None:
        _say(f"{record.build} must be signed; reading all of it before it serves")
        require_signed(record.model, signed_by)
