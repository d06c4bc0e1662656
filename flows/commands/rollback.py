"""`kawan-usaha rollback`."""

from flows.command_line.output import AsJson, show
from flows.command_line.which_deployment import DeploymentName, chosen_deployment


def rollback(name: DeploymentName = None, as_json: AsJson = False) -> None:
    """Serve the model again that served before.

    It takes over as every new model does: proven first, and without a gap where both fit. A new
    model that fails to start needs no rollback: the earlier one keeps serving. A model that was
    deployed with `--signed-by` must still be what was signed, as for `start`.

    Example: `kawan-usaha rollback demo`
    """
    from flows.actions.deploy import roll_back

    deployment = roll_back(chosen_deployment(name))
    text = f"{deployment.settings.model_name} answers at {deployment.base_url}"
    show(deployment, as_json=as_json, text=f"{text}, from {deployment.build}")
