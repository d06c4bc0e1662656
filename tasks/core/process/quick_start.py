"""`python -m tasks.core.process.quick_start MODULE ARGUMENTS`: run `MODULE.main`, imported quickly.

torch and transformers create a million objects while they are imported, none of them garbage, and
Python's collector scans them again and again: a sixth of the import time. It is disabled until the
module is imported, and never scans those objects again.
"""

import gc
import sys
from importlib import import_module


def quick_start(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module's main in a process of its own."""
    return [sys.executable, "-m", "tasks.core.process.quick_start", module, *arguments]


def main() -> int:
    """Return the exit code of the module's main, which gets the arguments after its name."""
    _, module, *arguments = sys.argv
    gc.disable()
    found = import_module(module)
    gc.freeze()
    gc.enable()
    code: int = found.main(*arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
