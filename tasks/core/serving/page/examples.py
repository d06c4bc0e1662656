"""The evaluation's prompts, as examples of questions."""

from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from tasks.core.errors import UsageError


class ExamplePrompt(BaseModel):
    """A prompt; `kind` is `chat` or `article`."""

    id: str
    kind: str = "chat"
    prompt: str


_FILE = TypeAdapter(list[ExamplePrompt])


def read_examples(path: Path) -> list[ExamplePrompt]:
    """Return the prompts of a file that are for a chat. Raises UsageError."""
    try:
        found = _FILE.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise UsageError(
            "The examples of the page cannot be read.",
            where=path,
            expected='a JSON list of {"id": ..., "kind": ..., "prompt": ...}',
            found=error,
            next_step="Correct the file; data/evaluation/prompts.json shows the form.",
        ) from error
    return [example for example in found if example.kind == "chat"]
