"""The pull step of every deployment: a run works in the checkout of its own machine.

So a deployment names no directory, and any worker with this project installed can take its runs:
beside the server, on another machine, in a container.
"""

import os

from tasks.core.home import PROJECT


def work_in_checkout() -> dict[str, str]:
    """Change to this machine's checkout, and return it to Prefect."""
    os.chdir(PROJECT)
    return {"directory": str(PROJECT)}
