"""`kawan-usaha start`."""

from flows.command_line.output import AsJson, show
from flows.command_line.which_deployment import DeploymentName, Wait, chosen_deployment


def start(name: DeploymentName = None, wait: Wait = False, as_json: AsJson = False) -> None:
    """Start a deployment whose processes have ended, such as after a reboot.

    A deployment that was stopped to make room for a model which then failed is started again too.
    One that was deployed with `--signed-by` must still be what was signed; all of it is read before
    it starts.

    Example: `kawan-usaha start demo --wait`
    """
    from flows.actions.deploy import start_again, wait_for_end

    name = chosen_deployment(name)
    deployment = start_again(name)
    text = f"{deployment.settings.model_name} answers at {deployment.base_url}"
    show(deployment, as_json=as_json, text=text)
    if wait:
        wait_for_end(name)
