"""Where notices go: to a person by mail or chat, to a program by webhook.

The two addresses, which hold passwords and tokens, come from the environment and lie in blocks of
the Prefect server, which sends. A message goes through Apprise, which Prefect brings along; of its
blocks every server knows SlackWebhook, which hands on any address of Apprise's as it is.
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

from flows.automations import put_automations
from flows.notice_automations import Kind, notice_automations
from flows.pools import MESSAGE_VARIABLE, WEBHOOK_VARIABLE
from tasks.core.errors import UsageError

_BLOCKS: dict[Kind, tuple[type[Block], str]] = {
    "message": (SlackWebhook, "kawan-usaha-message"),
    "webhook": (Webhook, "kawan-usaha-webhook"),
}


def named(environ: Mapping[str, str]) -> dict[Kind, Block]:
    """Return a block for each address that the environment names.

    Raises UsageError for one that cannot be an address; it is never quoted.
    """
    found: dict[Kind, Block] = {}
    if message := environ.get(MESSAGE_VARIABLE, "").strip():
        found["message"] = SlackWebhook(url=SecretStr(_message_address(message)))
    if webhook := environ.get(WEBHOOK_VARIABLE, "").strip():
        headers = SecretDict({"Content-Type": "application/json"})
        found["webhook"] = Webhook(url=SecretStr(_webhook_address(webhook)), headers=headers)
    return found


def installed(client: SyncPrefectClient) -> dict[Kind, UUID]:
    """Return the channels that are on the server, as the documents of their blocks."""
    found: dict[Kind, UUID] = {}
    for kind, (block, name) in _BLOCKS.items():
        with suppress(ObjectNotFound):
            slug = block.get_block_type_slug()
            found[kind] = client.read_block_document_by_name(name, slug, False).id
    return found


def install(address: str, environ: Mapping[str, str]) -> list[Kind]:
    """Put the channels that the environment names on the server; return all that are there now.

    An address that was there is replaced, a channel that is not named stays, and an automation that
    was switched off stays off. Raises UsageError where there is no channel in the end.
    """
    wanted = named(environ)
    with temporary_settings({PREFECT_API_URL: address}), get_client(sync_client=True) as client:
        for kind, block in wanted.items():
            block.save(_BLOCKS[kind][1], overwrite=True)
        there = installed(client)
        if not there:
            raise UsageError(
                "No address to send notices to is given.",
                expected=f"one in {MESSAGE_VARIABLE} (mail or chat), or in {WEBHOOK_VARIABLE}",
                next_step="`kawan-usaha prefect notices install --help` shows examples.",
            )
        put_automations(client, notice_automations(there))
        return list(there)


def remove(address: str) -> list[str]:
    """Remove automations and channels from the server; return the names of what was there."""
    removed = []
    with temporary_settings({PREFECT_API_URL: address}), get_client(sync_client=True) as client:
        for wanted in notice_automations({}):
            for each in client.read_automations_by_name(wanted.name):
                client.delete_automation(each.id)
                removed.append(each.name)
        for kind, document in installed(client).items():
            client.delete_block_document(document)
            removed.append(_BLOCKS[kind][1])
    return removed


def _message_address(address: str) -> str:
    if not apprise.Apprise().add(address):
        raise UsageError(
            "This is no address that a message can be sent to.",
            where=MESSAGE_VARIABLE,
            expected="mailtos://user:password@smtp.example.org?from=kawan@example.org"
            "&to=team@example.org, the address of a Slack webhook, or another one of "
            "https://github.com/caronc/apprise/wiki",
            next_step="Write special characters of a password as %40 (for @), %2F (for /) and so "
            "on.",
        )
    parts = urlsplit(address)
    if parts.scheme in ("mailto", "mailtos") and "format" not in parse_qs(parts.query):
        return f"{address}{'&' if parts.query else '?'}format=text"  # it would be HTML
    return address


def _webhook_address(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            "This is no address of a webhook.",
            where=WEBHOOK_VARIABLE,
            expected="https://…, which takes a JSON object by POST",
        )
    return address
