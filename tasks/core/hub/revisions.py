"""Revisions of the Hub: which of them can change, and what to say where it does not answer."""

import re

from tasks.core.errors import KawanUsahaError

PAUSES_S = (2.0, 5.0)
"""Between the tries of a Hub that cannot be reached: a run says within seconds that it cannot."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_commit(revision: str) -> bool:
    """Return whether a revision is a full commit, which always names the same bytes."""
    return _COMMIT.fullmatch(revision) is not None


def with_ways_out(error: KawanUsahaError) -> KawanUsahaError:
    """Return the error with what lets a run go on without the Hub from now on."""
    ways_out = (
        "To go on with what the store has: a full commit as revision, or `when_offline: "
        "last-commit` in the recipe."
    )
    next_step = f"{error.next_step} {ways_out}"
    return KawanUsahaError.from_dict({**error.as_dict(), "next_step": next_step})


def gone_on_with(source: object, commit: str, error: KawanUsahaError) -> str:
    """Return what to tell people where the last commit is taken, for want of an answer."""
    return (
        f"{source}: the Hub does not answer; going on with {commit[:12]}, the last commit that a "
        f"run has seen, as `when_offline` allows. ({error.what})"
    )
