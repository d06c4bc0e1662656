"""Which deployment a command means."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tasks.core.serving.state.record import Deployment

Name = Annotated[str | None, typer.Argument(help="The deployment; needed when there are several.")]

_NEXT = "`kawan-usaha status` shows what runs; `kawan-usaha rebuild demo` deploys."


def the_one(name: str | None) -> str:
    """Return the name that was given, or that of the only deployment. Raises UsageError."""
    from tasks.core.errors import UsageError
    from tasks.core.home import home
    from tasks.core.serving.state.directory import state_directories

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


def deployment_of(name: str) -> "Deployment":
    """Return what is known of a deployment. Raises UsageError where there is none."""
    from tasks.core.errors import UsageError
    from tasks.core.home import home
    from tasks.core.serving.state.directory import state_directory
    from tasks.core.serving.state.files import read_deployment

    deployment = read_deployment(state_directory(home(), name))
    if deployment is None:
        raise UsageError("There is no such deployment.", where=name, next_step=_NEXT)
    return deployment
