"""`kawan-usaha stop`."""

from flows.command_line.output import AsJson, show
from flows.command_line.which_deployment import DeploymentName, chosen_deployment
from tasks.core.home import home
from tasks.core.serving.launch.ending import stop as stop_deployment


def stop(name: DeploymentName = None, as_json: AsJson = False) -> None:
    """Stop a deployment and everything that belongs to it.

    Its model, logs and collected answers stay; `kawan-usaha start` starts it again.

    Example: `kawan-usaha stop demo`
    """
    stopped = stop_deployment(home(), chosen_deployment(name))
    text = f"{stopped.name}: stopped {', '.join(stopped.ended) or 'nothing, it was not running'}"
    show({"name": stopped.name, "ended": list(stopped.ended)}, as_json=as_json, text=text)
