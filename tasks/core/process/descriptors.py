"""How many files and connections a process may have open: as many as its hard limit lets it.

The soft limit is 1024 on most systems, for the sake of programs that use select(2); a gateway needs
two a client, and a merge one a shard on either side.
"""

import resource

_ENOUGH = 65_536


def allow_many_descriptors() -> None:
    """Raise this process's soft limit as far as it helps, and that of what it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(_ENOUGH, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
