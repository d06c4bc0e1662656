"""`python -P -m tasks.core.process.quick_start MODULE WORDS`: run `MODULE.main(*WORDS)`.

torch and transformers create a million objects while they are imported, none of them garbage, and
Python's collector scans them again and again: a sixth of the import time. It is disabled until the
module is imported, and never scans those objects again.

-P: a `torch.py` in the working directory must not be imported in place of torch.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module


def quick_start(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module's main in a process of its own."""
    return [sys.executable, "-P", "-m", "tasks.core.process.quick_start", module, *arguments]


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Import within this: the collector is disabled, and never scans what is there at the end."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def main() -> int:
    """Return the exit code of the module's main, which gets the arguments after its name."""
    _, module, *arguments = sys.argv
    with collector_at_rest():
        found = import_module(module)
    code: int = found.main(*arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
