"""`kawan-usaha demo`: the whole lifecycle on a real small model, and one question to it.

Runs the recipe `demo`, asks the served model, and says what to do next. It installs nothing, and
needs no Hub, GPU or server.
"""

import typer

from flows.commands.chat import chat
from flows.commands.deployments import deployment_of
from flows.commands.lifecycle import rebuild

QUESTION = "How do I set a fair price for the cakes I bake and sell at home?"
"""In English: that is what the demo's small model was trained on."""

_NEXT = """
What next?
  .venv/bin/kawan-usaha chat demo            talk with the model
  .venv/bin/kawan-usaha status               what runs, and the edit as the engine shows it
  .venv/bin/kawan-usaha rebuild demo         again: every stage is Cached
  .venv/bin/kawan-usaha data review demo     what people allowed on the page, for `learn demo`
  .venv/bin/kawan-usaha store list           what was built
  make prefect-up                            the UI, with this as the deployment `demo`
  cp data/recipes/demo.yaml mine.yaml        your own recipe: docs/recipe.md lists the fields
  .venv/bin/kawan-usaha stop demo            end the servers

The page to talk with the model, in Indonesian: {page}
"""


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command()(demo)


def demo() -> None:
    """Run the whole lifecycle on a real small model, and ask the served model one question.

    The same as `kawan-usaha rebuild demo`, then `kawan-usaha chat demo --once "…"`.
    """
    rebuild("demo")
    typer.echo(f"\nQuestion: {QUESTION}\nAnswer:   ", nl=False)
    chat("demo", once=QUESTION, max_tokens=90, temperature=0)
    typer.echo(_NEXT.format(page=deployment_of("demo").page_url))
