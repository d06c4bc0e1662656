"""The channels of notices: mail or chat for people, a webhook for programs.

The two addresses, which hold passwords and tokens, come from the environment and are stored in
blocks of the Prefect server, which sends the notices. Messages go through Apprise, which comes with
Prefect. The block is SlackWebhook: every server has it, and it passes any Apprise address on as is.
"""

from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import apprise
from prefect.blocks.core import Block
from prefect.blocks.notifications import SlackWebhook
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.types import SecretDict
from pydantic import SecretStr

from flows.notices.automations import ChannelKind, notice_automations
from flows.prefect_server.automations import install_automations
from flows.prefect_server.pools import MESSAGE_VARIABLE, WEBHOOK_VARIABLE
from tasks.core.errors import UsageError

_BLOCKS: dict[ChannelKind, tuple[type[Block], str]] = {
    "message": (SlackWebhook, "kawan-usaha-message"),
    "webhook": (Webhook, "kawan-usaha-webhook"),
}


def configured_channels(environ: Mapping[str, str]) -> dict[ChannelKind, Block]:
    """Return a block for each address in the environment.

    Raises UsageError for a value that is not an address, without quoting it.
    """
    found: dict[ChannelKind, Block] = {}
    if message := environ.get(MESSAGE_VARIABLE, "").strip():
        found["message"] = SlackWebhook(url=SecretStr(_message_address(message)))
    if webhook := environ.get(WEBHOOK_VARIABLE, "").strip():
        headers = SecretDict({"Content-Type": "application/json"})
        found["webhook"] = Webhook(url=SecretStr(_webhook_address(webhook)), headers=headers)
    return found


def installed_channels(client: SyncPrefectClient) -> dict[ChannelKind, UUID]:
    """Return the channels that are installed on the server, with the IDs of their blocks."""
    found: dict[ChannelKind, UUID] = {}
    for kind, (block, name) in _BLOCKS.items():
        with suppress(ObjectNotFound):
            slug = block.get_block_type_slug()
            found[kind] = client.read_block_document_by_name(name, slug, False).id
    return found


def install_channels(address: str, environ: Mapping[str, str]) -> list[ChannelKind]:
    """Install the channels that the environment names; return all that the server has now.

    The address of an installed channel is replaced, a channel that is not named stays, and an
    automation that was switched off stays off. Raises UsageError if the server has no channel.
    """
    wanted = configured_channels(environ)
    with temporary_settings({PREFECT_API_URL: address}), get_client(sync_client=True) as client:
        for kind, block in wanted.items():
            block.save(_BLOCKS[kind][1], overwrite=True)
        there = installed_channels(client)
        if not there:
            raise UsageError(
                "No address for notices is given.",
                expected=f"an address in {MESSAGE_VARIABLE} (mail or chat) or {WEBHOOK_VARIABLE}",
                next_step="`kawan-usaha prefect notices install --help` shows examples.",
            )
        install_automations(client, notice_automations(there))
        return list(there)


def remove_channels(address: str) -> list[str]:
    """Remove automations and channels from the server; return the names of what was removed."""
    removed = []
    with temporary_settings({PREFECT_API_URL: address}), get_client(sync_client=True) as client:
        for wanted in notice_automations({}):
            for each in client.read_automations_by_name(wanted.name):
                client.delete_automation(each.id)
                removed.append(each.name)
        for kind, document in installed_channels(client).items():
            client.delete_block_document(document)
            removed.append(_BLOCKS[kind][1])
    return removed


def _message_address(address: str) -> str:
    if not apprise.Apprise().add(address):
        raise UsageError(
            "This is not an address for messages.",
            where=MESSAGE_VARIABLE,
            expected="mailtos://user:password@smtp.example.org?from=kawan@example.org"
            "&to=team@example.org, the address of a Slack webhook, or another one that "
            "https://github.com/caronc/apprise/wiki lists",
            next_step="Escape special characters of a password: %40 for @, %2F for / and so on.",
        )
    parts = urlsplit(address)
    if parts.scheme in ("mailto", "mailtos") and "format" not in parse_qs(parts.query):
        return f"{address}{'&' if parts.query else '?'}format=text"  # the default is HTML
    return address


def _webhook_address(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            "This is not the address of a webhook.",
            where=WEBHOOK_VARIABLE,
            expected="https://…, which accepts a JSON object by POST",
        )
    return address
