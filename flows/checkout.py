"""The pull step of every deployment: a run works in the checkout of the machine that it is on.

So a deployment names no directory, and its runs can be taken by any worker that has this project
installed: beside the server, on another machine, in a container.
"""

import os

from tasks.core.home import PROJECT


def work_in_checkout() -> dict[str, str]:
    """Make this machine's checkout the working directory, and name it to Prefect."""
    os.chdir(PROJECT)
    return {"directory": str(PROJECT)}
