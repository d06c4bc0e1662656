"""The deployment that a command works on."""

from typing import Annotated

import typer

from tasks.core.errors import UsageError
from tasks.core.home import home
from tasks.core.serving.state.directory import state_directories, state_directory
from tasks.core.serving.state.files import read_deployment
from tasks.core.serving.state.record import Deployment

DeploymentName = Annotated[
    str | None, typer.Argument(help="The deployment; required if there are several.")
]
Wait = Annotated[
    bool,
    typer.Option(
        help="Stay until it ends, and end it on Ctrl-C or SIGTERM, as systemd and Docker expect."
    ),
]

_NEXT = "`kawan-usaha status` shows what runs; `kawan-usaha rebuild demo` deploys."


def chosen_deployment(name: str | None) -> str:
    """Return the given name, or that of the only deployment. Raises UsageError."""
    names = [state.name for state in state_directories(home())]
    if name is None and len(names) == 1:
        return names[0]
    if name is None:
        raise UsageError(
            "Name the deployment." if names else "Nothing is deployed.",
            expected=", ".join(names) or None,
            next_step=_NEXT,
        )
    return name


def require_deployment(name: str) -> Deployment:
    """Return the record of a deployment. Raises UsageError if there is none."""
    deployment = read_deployment(state_directory(home(), name))
    if deployment is None:
        raise UsageError("There is no such deployment.", where=name, next_step=_NEXT)
    return deployment
