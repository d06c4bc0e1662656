"""Work pools, heartbeat, names of variables; apart, so that the command line loads no Prefect."""

from dataclasses import dataclass

HEARTBEAT_S = 30
"""How often a run gives a sign of life: the least that Prefect takes; its default is 180."""

MESSAGE_VARIABLE = "KAWAN_USAHA_MESSAGE_URL"
WEBHOOK_VARIABLE = "KAWAN_USAHA_WEBHOOK_URL"
"""Where notices go. Read by `prefect notices install`, and handed on to no other process."""

REDIS_VARIABLE = "KAWAN_USAHA_REDIS"
"""What several servers share, beside their database. Read by `prefect up`."""


@dataclass(frozen=True)
class Pool:
    """A work pool, and how many of its runs may be at work at once; None is no limit.

    The server counts a pool's runs in its database, so a restart of it harms no run.
    """

    description: str
    concurrency_limit: int | None = None


POOLS = {
    "kawan-cpu": Pool("Runs that need no GPU."),
    "kawan-gpu": Pool("Runs that need a GPU, one at a time.", concurrency_limit=1),
    "kawan-serve": Pool("Runs on the machine that serves models."),
}
"""Which stage runs in which pool is said in prefect.yaml; where a pool's runs live, by its worker.

A pool that is on the server already stays as it is, also one of another type (docs/machines.md).
"""
