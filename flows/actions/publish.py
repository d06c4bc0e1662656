"""Publish a model directory, or show an earlier build of it again."""

from dataclasses import replace
from pathlib import Path

from flows.actions.local_models import in_use
from flows.command_line.output import bytes_bar
from tasks.core.files.digests import digests_of
from tasks.core.hub.card.model_class import require_loadable
from tasks.core.hub.publish.allow_list import choose_to_publish, files_below, why_left_out
from tasks.core.hub.publish.publication import Publication
from tasks.core.hub.publish.receipt import Receipt
from tasks.core.hub.publish.to_filesystem import publish_to_filesystem, rollback_on_filesystem
from tasks.core.hub.publish.to_hub.protocol import publish_to_hub, rollback_on_hub
from tasks.core.model.template_record import template_for
from tasks.core.recipe import Publish
from tasks.core.release.build_card import card_of_directory
from tasks.core.signing import key_of


def show_earlier(place: str, tag: str, *, to_files: bool) -> Receipt:
    """Let a place show the build of an earlier tag again."""
    roll_back = rollback_on_filesystem if to_files else rollback_on_hub
    return roll_back(place, tag)


def publish_directory(
    directory: Path,
    target: Publish,
    *,
    template: str | None,
    signed_by: Path | None,
    to_files: bool,
) -> Receipt:
    """Upload the model's files with a model card; signed, if a public key is given."""
    key = None if signed_by is None else key_of(signed_by)
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
    return replace(receipt, left_out=left_out)
