"""The commands by name, each with its module and the line that `--help` shows of it.

Only the module of the command that is called is imported: `kawan-usaha --help` needs none of them.
A contract holds each line to what the command says of itself.
"""

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

SUMMARIES: Final = {
    "demo": {
        "demo": "Run the whole lifecycle on a real small model, and ask the served model one "
        "question.",
    },
    "lifecycle": {
        "rebuild": "Build, prove, publish and serve what a recipe says. What is done already is "
        "not done again.",
        "learn": "Train a released recipe with what was reviewed since; release it if it is "
        "better.",
        "plan": "Say beforehand what a recipe needs of disk, memory and time, and whether it fits.",
    },
    "recipe": {
        "recipe": "Begin a recipe, check one and fill in its defaults, describe them to an editor.",
    },
    "models": {
        "download": "Download a model: one weight format, every file checked, continued after a "
        "break.",
        "merge": "Add a weight delta to a base model, streamed: a better "
        "`fastchat.model.apply_delta`.",
        "edit": "Change the architecture so that the change travels with the model, and prove it.",
        "inspect": "Show each layer's activation, shapes, type and parameters, and whether an edit "
        "is alive.",
        "fuse": "Add a PEFT LoRA adapter to the weights of a model, streamed.",
    },
    "finetune": {
        "finetune": "Train a LoRA adapter; resumes after a crash, retries with less memory after "
        "running out.",
    },
    "evaluate": {
        "evaluate": "Measure perplexity, distance to another model, answers and speed; judge by "
        "limits.",
    },
    "publish": {
        "publish": "Publish a model: all of it or nothing, verified where it arrived.",
    },
    "serving": {
        "deploy": "Serve a model behind an OpenAI-compatible address: supervised, watched, proven "
        "first.",
        "start": "Start a deployment again that should serve and does not: after a reboot, for "
        "one.",
        "rollback": "Serve again what served before.",
        "status": "Show what is running and what is deployed, and whether each deployment "
        "generates right now.",
        "logs": "Show the end of the logs of a deployment, and its incidents.",
        "stop": "End a deployment and everything that belongs to it.",
        "hub": "Run a small Hub on this machine until Ctrl-C, to look at what the demo published.",
    },
    "chat": {
        "chat": "Talk with a deployed model. An empty line or Ctrl-D ends it.",
    },
    "data": {
        "data": "Check conversation files, show a record; review and delete what was collected.",
    },
    "store": {
        "store": "Look at the artifacts, verify, prune, share.",
    },
    "prefect": {
        "prefect": "Run flows from Prefect's UI, on schedules, again after a crash.",
    },
}
"""The lines by command, and these by the module of `flows.commands` that registers them."""

_MODULES = {name: module for module, lines in SUMMARIES.items() for name in lines}


class Commands(MutableMapping[str, Any]):
    """The commands, in their order; each is loaded when it is asked for."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """Return the command. Raises KeyError for none of ours."""
        if name not in self._loaded:
            app = typer.Typer(rich_markup_mode="markdown", add_completion=False)
            import_module(f"flows.commands.{_MODULES[name]}").register(app)
            self._loaded = {**typer.main.get_group(app).commands, **self._loaded}
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name} is one of the commands")

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


class LazyGroup(TyperGroup):
    """A group that lists its commands without loading one, and loads the one that is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: MutableMapping[str, Any] = Commands()

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names."""
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return what stands for a command in a list; None where there is none of this name."""
        module = _MODULES.get(cmd_name)
        return module and TyperCommand(cmd_name, help=SUMMARIES[module][cmd_name])

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Return the command that the words call."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, self.commands[str(name)] if found else None, rest
