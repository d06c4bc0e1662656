"""Work pools, the heartbeat, names of variables. Imports no Prefect: the command line needs it."""

from dataclasses import dataclass

HEARTBEAT_S = 30
"""How often a run sends a heartbeat: the shortest that Prefect accepts; its default is 180."""

MESSAGE_VARIABLE = "KAWAN_USAHA_MESSAGE_URL"
WEBHOOK_VARIABLE = "KAWAN_USAHA_WEBHOOK_URL"
"""Where notices go. Read by `prefect notices install` and passed to no other process."""

REDIS_VARIABLE = "KAWAN_USAHA_REDIS"
"""The Redis that several servers share beside their database. Read by `prefect up`."""


@dataclass(frozen=True)
class Pool:
    """A work pool, and how many of its runs may run at once; None is no limit.

    The server counts them in its database, so restarting it harms no run.
    """

    description: str
    concurrency_limit: int | None = None


POOLS = {
    "kawan-cpu": Pool("Runs that need no GPU."),
    "kawan-gpu": Pool("Runs that need a GPU, one at a time.", concurrency_limit=1),
    "kawan-serve": Pool("Runs on the machine that serves models."),
}
"""prefect.yaml assigns stages to pools; the worker of a pool decides where its runs live.

A pool that is on the server already stays as it is, even one of another type (docs/machines.md).
"""
