"""`make demo`: the whole lifecycle on a real small model, and one question to it.

`python -m flows.demo` runs the recipe `demo` through the command line, as a user would, asks the
served model, and says what to do next. It installs nothing, and needs no Hub, GPU or server.
"""

import subprocess
import sys
from pathlib import Path

QUESTION = "How do I set a fair price for the cakes I bake and sell at home?"
"""In English: that is what the demo's small model was trained on."""
_COMMAND = str(Path(sys.executable).with_name("kawan-usaha"))

_NEXT = """
What next?
  .venv/bin/kawan-usaha chat demo            talk with the model
  .venv/bin/kawan-usaha status               what runs, and the edit as the worker shows it
  .venv/bin/kawan-usaha rebuild demo         again: every stage is Cached
  .venv/bin/kawan-usaha store list           what was built
  .venv/bin/prefect server start             the UI; the README says how to run flows from there
  cp data/recipes/demo.yaml mine.yaml        your own recipe: docs/recipe.md lists the fields
  .venv/bin/kawan-usaha stop demo            end the servers
"""


def main() -> int:
    """Run the demo and return its exit code."""
    code = _run("rebuild", "demo")
    if code != 0:
        return code
    sys.stdout.write(f"\nQuestion: {QUESTION}\nAnswer:   ")
    sys.stdout.flush()
    code = _run("chat", "demo", "--once", QUESTION, "--max-tokens", "90", "--temperature", "0")
    if code == 0:
        sys.stdout.write(_NEXT)
    return code


def _run(*words: str) -> int:
    return subprocess.run([_COMMAND, *words], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
