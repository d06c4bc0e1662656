"""`kawan-usaha publish`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from flows.command_line.output import AsJson, show
from flows.command_line.sources import Template
from tasks.core.errors import UsageError
from tasks.core.recipe import Publish

_IS_URL = "://"
_PLACES = "a Hub repository (owner/name), or a directory or fsspec URL with ://"


def publish(
    model: Annotated[str, typer.Argument(help="A model directory; with --rollback, leave it out.")],
    place: Annotated[
        str | None,
        typer.Argument(help="A Hub repository (owner/name), or a directory or fsspec URL with ://"),
    ] = None,
    *,
    rollback: Annotated[
        str | None,
        typer.Option(help="Show the earlier build with this tag again; uploads nothing."),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Make it visible to everybody.")] = False,
    license: Annotated[str, typer.Option(help="The Hub's identifier of the licence.")] = "other",
    accept_license: Annotated[
        str | None,
        typer.Option(
            help="The sentence required for weights that are non-commercial or of unknown origin."
        ),
    ] = None,
    template: Template = None,
    signed_by: Annotated[
        Path | None,
        typer.Option(
            help="Sign it with the private key of this public one (PEM); the private key comes "
            "from KAWAN_USAHA_SIGNING_KEY."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Publish a model: all of it or nothing, verified where it arrived.

    Only the files that belong to a model are uploaded; the others are listed, and a secret is
    refused. What is there already is not uploaded again; an interrupted upload resumes. The token
    comes from HF_TOKEN.

    Examples: `kawan-usaha publish tuned our-team/kawan-usaha`,
    `kawan-usaha publish tuned file:///srv/models/kawan-usaha --signed-by team.pub`,
    `kawan-usaha publish our-team/kawan-usaha --rollback release-0123456789abcdef`
    """
    if rollback is not None:
        place = place or model
    if place is None:
        raise UsageError(
            "Name the place to publish to.",
            expected=_PLACES,
            next_step=f"kawan-usaha publish {model} our-team/our-model",
        )
    to_files = _IS_URL in place
    from flows.actions.publish import publish_directory, show_earlier

    if rollback is not None:
        receipt = show_earlier(place, rollback, to_files=to_files)
        lines = [f"{receipt.place} shows {receipt.tag} again: {receipt.url}"]
    else:
        target = _target(place, to_files, public, license, accept_license)
        receipt = publish_directory(
            Path(model), target, template=template, signed_by=signed_by, to_files=to_files
        )
        sent, kept = receipt.sent_bytes / 1e6, receipt.skipped_bytes / 1e6
        lines = [
            f"{receipt.tag}: {receipt.url}",
            f"{sent:,.1f} MB uploaded, {kept:,.1f} MB already there",
        ]
    show(asdict(receipt), as_json=as_json, text="\n".join([*lines, *receipt.remarks()]))


def _target(
    place: str, to_files: bool, public: bool, license: str, accept_license: str | None
) -> Publish:
    """Return where to publish, and under which licence. Raises UsageError if that is invalid."""
    try:
        return Publish.model_validate(
            {
                "target" if to_files else "repo": place,
                "private": not public,
                "license": license,
                "accept_license": accept_license,
            }
        )
    except ValidationError as error:
        problems = (problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        raise UsageError(
            "This is not a valid target for publishing.",
            expected=_PLACES,
            found="; ".join(problems),  # not the place itself, which may hold a password
            next_step="See `kawan-usaha publish --help`.",
        ) from error
