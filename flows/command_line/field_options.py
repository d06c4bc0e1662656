"""Options made from the fields of a recipe, with the same defaults, meanings and limits.

A field that is added to the recipe is an option at once.
"""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flows.command_line.numbers import Range


def field_options(
    model: type[BaseModel], *, panel: str, prefix: str = "", but: tuple[str, ...] = ()
) -> list[inspect.Parameter]:
    """Return an option for each field; help shows them in a panel of this name."""
    return [
        _option(name, info, panel, prefix)
        for name, info in model.model_fields.items()
        if name not in but
    ]


def with_options(*options: inspect.Parameter) -> Callable[[Callable[..., None]], Any]:
    """Return a decorator that gives a command these options in place of its **parameters."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]

        def command(**given: Any) -> None:
            function(**given)

        command.__doc__ = function.__doc__
        parameters = [each.replace(kind=each.KEYWORD_ONLY) for each in [*own, *options]]
        command.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=parameters
        )
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return decorate


def _option(name: str, info: FieldInfo, panel: str, prefix: str) -> inspect.Parameter:
    """Return the option of a field. Not given, it is None; help shows the recipe's default."""
    kind, choices = _kind(info.annotation)
    text = str(info.description or info.title)
    default = info.get_default(call_default_factory=True)
    if isinstance(default, tuple):
        default = " ".join(str(part) for part in default)
    shown = False if default in (None, "") else str(default)
    more: dict[str, Any] = {"show_default": shown, "rich_help_panel": panel}
    if kind in (int, float):
        option = Range.of(info).option(text, **more)
    else:
        text += f" One of: {choices}." if choices else ""
        option = typer.Option(help=text, **more)
    return inspect.Parameter(
        prefix + name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def _kind(annotation: Any) -> tuple[Any, str]:
    """Return the type that the command line reads, and the choices of a Literal."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return type(parts[0]), ", ".join(map(str, parts))
    if origin is tuple:
        return list[str], _kind(parts[0])[1]
    if parts:  # a union: with None, or of a list with a word that stands for one
        kinds = [_kind(part) for part in parts if part is not type(None)]
        return next((kind for kind in kinds if kind[0] == list[str]), kinds[0])
    return annotation, ""
