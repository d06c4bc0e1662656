"""`python -m tasks.core.process.quick_start MODULE ARGUMENTS`: run `MODULE.main`, imported quickly.

torch and transformers make a million objects while they are imported, and none of them is garbage:
that Python's collector looks through them again and again is a sixth of the import. It rests until
the module is there, and never looks at those objects again.
"""

import gc
import sys
from importlib import import_module


def quick_start(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module's main in a process of its own."""
    return [sys.executable, "-m", "tasks.core.process.quick_start", module, *arguments]


def main() -> int:
    """Return what the module's own main does, which gets the arguments behind its name."""
    _, module, *arguments = sys.argv
    gc.disable()
    found = import_module(module)
    gc.freeze()
    gc.enable()
    code: int = found.main(*arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
