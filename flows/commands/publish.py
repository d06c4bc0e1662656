"""`kawan-usaha publish`: a model directory to a Hub, a directory or a bucket, or back again."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.output import AS_JSON, bytes_bar, show
from flows.commands.sources import TEMPLATE, in_use

_IS_URL = "://"


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command()(publish)


def publish(
    model: Annotated[str, typer.Argument(help="A model directory; leave it out to roll back.")],
    place: Annotated[
        str | None,
        typer.Argument(help="A Hub repository (owner/name), or a directory or fsspec URL with ://"),
    ] = None,
    *,
    rollback: Annotated[
        str | None, typer.Option(help="Show this earlier build (its tag) again; sends nothing.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Visible to everybody.")] = False,
    license: Annotated[str, typer.Option(help="The Hub's licence identifier.")] = "other",
    accept_license: Annotated[
        str | None,
        typer.Option(
            help="The sentence that non-commercial weights, or such of unknown origin, ask for."
        ),
    ] = None,
    template: Annotated[str | None, TEMPLATE] = None,
    signed_by: Annotated[
        Path | None,
        typer.Option(
            help="Sign it, with the private key of this public one (PEM); that comes from "
            "KAWAN_USAHA_SIGNING_KEY."
        ),
    ] = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Publish a model: all of it or nothing, verified where it arrived.

    Sent are the files that belong to a model; what is left out is said, and a secret is refused.
    What is there already is not sent again; a broken upload resumes where it stopped. The token
    comes from HF_TOKEN.

    Examples: `kawan-usaha publish tuned our-team/kawan-usaha`,
    `kawan-usaha publish tuned file:///srv/models/kawan-usaha --signed-by team.pub`,
    `kawan-usaha publish our-team/kawan-usaha --rollback release-0123456789abcdef`
    """
    from dataclasses import asdict, replace

    from pydantic import ValidationError

    from tasks.core.errors import UsageError
    from tasks.core.files.digests import digests_of
    from tasks.core.hub.card.model_class import require_loadable
    from tasks.core.hub.publish.allow_list import choose_to_publish, files_below, why_left_out
    from tasks.core.hub.publish.publication import Publication
    from tasks.core.hub.publish.to_filesystem import (
        publish_to_filesystem,
        rollback_on_filesystem,
    )
    from tasks.core.hub.publish.to_hub.protocol import publish_to_hub, rollback_on_hub
    from tasks.core.model.template_record import template_for
    from tasks.core.recipe import Publish
    from tasks.core.release.build_card import card_of_directory
    from tasks.core.signing import key_of

    if rollback is not None:
        place = place or model
    if place is None:
        raise UsageError(
            "Name the place to publish to.",
            expected="a Hub repository (owner/name), or a directory or fsspec URL with ://",
            next_step=f"kawan-usaha publish {model} our-team/our-model",
        )
    to_files = _IS_URL in place
    if rollback is not None:
        go_back = rollback_on_filesystem if to_files else rollback_on_hub
        receipt = go_back(place, rollback)
        lines = [f"{receipt.place} shows {receipt.tag} again: {receipt.url}", *receipt.remarks()]
        show(asdict(receipt), as_json=as_json, text="\n".join(lines))
        return
    try:
        target = Publish.model_validate(
            {
                "target" if to_files else "repo": place,
                "private": not public,
                "license": license,
                "accept_license": accept_license,
            }
        )
    except ValidationError as error:
        told = (problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        found = "; ".join(told)
        raise UsageError(
            "This is no place to publish to.",
            expected="a Hub repository (owner/name), or a directory or fsspec URL with ://",
            found=found,  # not the place itself: what is refused may be a password
            next_step="See `kawan-usaha publish --help`.",
        ) from error
    key = None if signed_by is None else key_of(signed_by)
    directory = Path(model)
    with in_use(directory):
        require_loadable(directory)  # before everything is hashed
        prompted_with = template_for(directory, template)
        present = files_below(directory)
        names = choose_to_publish(directory, present)
        digests = digests_of([directory / name for name in names])
        files = dict(zip(names, digests, strict=True))
        fingerprint = None if key is None else key.fingerprint
        card = card_of_directory(directory, files, target, prompted_with, signed_by=fingerprint)
        publication = Publication(directory, files, card.text, card.build, key)
        send = publish_to_filesystem if to_files else publish_to_hub
        with bytes_bar("publish") as report:
            receipt = send(publication, target, on_progress=report)
    left_out = {name: why_left_out(name) for name in present if name not in files}
    receipt = replace(receipt, left_out=left_out)
    sent = f"{receipt.sent_bytes / 1e6:,.1f} MB sent, {receipt.skipped_bytes / 1e6:,.1f} MB there"
    lines = [f"{receipt.tag}: {receipt.url}", sent, *receipt.remarks()]
    show(asdict(receipt), as_json=as_json, text="\n".join(lines))
