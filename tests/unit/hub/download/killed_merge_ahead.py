"""A run in the home `HOME` that is killed once three shards are recorded."""

import os
import signal
import sys
from pathlib import Path

from tests.unit.hub.download.ahead_world import World


def die(world: World) -> None:
    """Be killed, once that is so."""
    if world.recorded >= 3:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    World(Path(sys.argv[1]), at_each_wait=die).run()
