"""`kawan-usaha demo`: the whole lifecycle on a small model, and one question to it.

Runs the recipe `demo`, asks the served model, and lists what to try next. It installs nothing, and
needs no Hub, GPU or server.
"""

import typer

from flows.command_line.which_deployment import require_deployment
from flows.commands.chat import chat
from flows.commands.rebuild import rebuild

QUESTION = "How do I set a fair price for the cakes I bake and sell at home?"
"""In English, the language that the demo's small model was trained on."""

_NEXT = """
What next?
  .venv/bin/kawan-usaha chat demo            talk to the model
  .venv/bin/kawan-usaha status               what is running, and the edit as the engine reports it
  .venv/bin/kawan-usaha rebuild demo         again: every stage is Cached
  .venv/bin/kawan-usaha data review demo     review what people agreed to share, for `learn demo`
  .venv/bin/kawan-usaha store list           what was built
  make prefect-up                            the UI, with this as the deployment `demo`
  .venv/bin/kawan-usaha recipe new my.yaml   your own recipe, with a comment for every field
  .venv/bin/kawan-usaha stop demo            stop the servers

The page to talk to the model, in Indonesian: {page}
"""


def demo() -> None:
    """Run the whole lifecycle on a real small model, and ask the served model one question.

    The same as `kawan-usaha rebuild demo`, then `kawan-usaha chat demo --once "…"`.

    Example: `kawan-usaha demo`
    """
    rebuild("demo")
    typer.echo(f"\nQuestion: {QUESTION}\nAnswer:   ", nl=False)
    chat("demo", once=QUESTION, max_tokens=90, temperature=0)
    typer.echo(_NEXT.format(page=require_deployment("demo").page_url))
