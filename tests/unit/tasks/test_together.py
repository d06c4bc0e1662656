"""What an interrupt says of stages that run beside each other."""

import _thread
import threading

import pytest

from tasks.core.system.threads import pause
from tasks.runtime import run_together

pytestmark = pytest.mark.usefixtures("interruptible")


@pytest.mark.parametrize(
    ("waiting", "note"),
    [
        (["merge"], "Interrupted stage: merge."),
        (["download", "merge"], "Interrupted stages: download, merge."),
        (["download", "download"], "Interrupted stage: download."),
    ],
)
def test_an_interrupt_names_the_stages_that_were_running(waiting: list[str], note: str) -> None:
    has_ended, first = threading.Event(), threading.Lock()

    def wait() -> None:
        has_ended.wait()
        if first.acquire(blocking=False):
            _thread.interrupt_main()
        pause(3600)

    with pytest.raises(KeyboardInterrupt) as stop:
        run_together(("edit", has_ended.set), *((name, wait) for name in waiting))
    assert stop.value.__notes__ == [note]


def test_the_results_come_in_the_order_of_the_stages() -> None:
    assert run_together(("download", lambda: 1), ("merge", lambda: 2)) == [1, 2]
