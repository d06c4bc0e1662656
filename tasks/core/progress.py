"""How long work reports how far it is, without knowing who listens."""

from collections.abc import Callable

Report = Callable[[int, int], None]
"""Called with (done, total), both in the work's own unit: bytes for weights, steps for training.

May be called from any thread, and often: a listener that draws must limit its own rate.
"""


def silent(done: int, total: int) -> None:
    """Listen to nothing."""
