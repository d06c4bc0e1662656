"""Raising the limit of open files and connections up to what the hard limit allows.

The soft limit is 1024 on most systems, for the sake of programs that use select(2); a gateway needs
two descriptors per client, and a merge one per shard on either side.
"""

import resource

_ENOUGH = 65_536


def allow_many_descriptors() -> None:
    """Raise the soft limit of this process and its children to what is ever needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(_ENOUGH, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
