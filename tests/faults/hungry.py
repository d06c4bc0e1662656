"""A crew of which one process takes more memory than its control group has.

python -c "from tests.faults.hungry import main; main()" GROUP
"""

import sys
from pathlib import Path

from tasks.core.process.crew import computed


def eat(number: int) -> int:
    """Take a gigabyte for the last item."""
    return len(b"x" * (1 << 30)) if number == 3 else number


def main() -> None:
    """Compute in the group, and print what comes of it."""
    Path(sys.argv[1], "cgroup.procs").write_text("0")
    try:
        print(sum(computed(eat, range(4), processes=2)))  # noqa: T201 - for the test that waits
    except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
        print(type(error).__name__, error)  # noqa: T201
