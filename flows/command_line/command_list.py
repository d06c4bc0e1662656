"""The commands by name, with the line that `kawan-usaha --help` shows for each.

The module of a command has its name. Only that of the command that is called is imported;
`kawan-usaha --help` imports none. A contract checks each line against the command's own help.
"""

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

SUMMARIES: Final = {
    "demo": "Run the whole lifecycle on a real small model, and ask the served model one question.",
    "rebuild": "Build, prove, publish and serve what a recipe describes; finished stages are "
    "reused.",
    "learn": "Train a released recipe with what was reviewed since; release it if it is better.",
    "plan": "Estimate the disk, memory and time that a recipe needs, and whether it fits.",
    "download": "Download a model in one weight format, verify every file, resume after an "
    "interruption.",
    "merge": "Add a weight delta to a base model, streamed: a better `fastchat.model.apply_delta`.",
    "edit": "Change the architecture so that the change travels with the model, and prove it.",
    "inspect": "Show each layer's activation, shapes, type and parameters, and whether an edit is "
    "alive.",
    "fuse": "Add a PEFT LoRA adapter to the weights of a model, streamed.",
    "finetune": "Train a LoRA adapter; resumes after a crash, retries with less memory after "
    "running out.",
    "evaluate": "Measure perplexity, distance to another model, answers and speed; judge by "
    "limits.",
    "publish": "Publish a model: all of it or nothing, verified where it arrived.",
    "deploy": "Serve a model behind an OpenAI-compatible address: supervised, watched, proven "
    "first.",
    "start": "Start a deployment whose processes have ended, such as after a reboot.",
    "rollback": "Serve the model again that served before.",
    "status": "Show what is running and deployed, and whether each deployment answers right now.",
    "logs": "Show the last lines of a deployment's logs, and its incidents.",
    "stop": "Stop a deployment and everything that belongs to it.",
    "hub": "Run a small Hub on this machine until Ctrl-C, to browse what the demo published.",
    "chat": "Talk to a deployed model. An empty line or Ctrl-D ends the conversation.",
    "data": "Check conversation files, show a record; review and delete what was collected.",
    "store": "List, verify, prune and share artifacts.",
    "recipe": "Begin a recipe, check one and fill in its defaults, describe them to an editor.",
    "prefect": "Run flows from Prefect's UI, on schedules, and restart them after a crash.",
}


class Commands(MutableMapping[str, Any]):
    """The commands, in their order; each is imported when it is asked for."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """Return the command or group of this name. Raises KeyError if there is none."""
        if name not in self._loaded:
            if name not in SUMMARIES:
                raise KeyError(name)
            self._loaded[name] = _load(name)
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name} is one of the commands")

    def __iter__(self) -> Iterator[str]:
        return iter(SUMMARIES)

    def __len__(self) -> int:
        return len(SUMMARIES)


def _load(name: str) -> Any:
    """Return the group `app` of a command's module, or else its function of that name."""
    module = import_module(f"flows.commands.{name}")
    app = typer.Typer(rich_markup_mode="markdown", add_completion=False)
    if hasattr(module, "app"):
        app.add_typer(module.app, name=name)
    else:
        app.command(name)(getattr(module, name))
    return typer.main.get_group(app).commands[name]


class LazyGroup(TyperGroup):
    """A group that lists its commands without importing any, and imports the one it calls."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: MutableMapping[str, Any] = Commands()

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names."""
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a stand-in for the list of commands; None if there is no command of this name."""
        summary = SUMMARIES.get(cmd_name)
        return summary and TyperCommand(cmd_name, help=summary)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Return the command that the arguments call."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, self.commands[str(name)] if found else None, rest
