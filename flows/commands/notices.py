"""`kawan-usaha prefect notices`: be told by mail, chat or webhook what happens without you."""

import os
from typing import Annotated

import typer

from flows.commands.output import AS_JSON, show
from flows.commands.prefect_server import named_server
from flows.pools import MESSAGE_VARIABLE, WEBHOOK_VARIABLE

notices_app = typer.Typer(
    no_args_is_help=True,
    help="Be told by mail, chat or webhook when a rebuild succeeds, fails, is refused by its gate "
    "or crashes, when a fine-tune goes on with less memory, and when a service was down.",
)
Json = Annotated[bool, AS_JSON]


@notices_app.command(
    help=f"""Send notices from now on. Run it again after a change of an address.

    Where to is said by two variables, one or both of them; they hold passwords, and stay out of
    the command line. The server keeps them, as blocks.

    `{MESSAGE_VARIABLE}`: mail or chat, for people.
    `mailtos://user:password@smtp.example.org?from=kawan@example.org&to=team@example.org`, the
    address of a Slack webhook, or another of https://github.com/caronc/apprise/wiki

    `{WEBHOOK_VARIABLE}`: an https address that takes a JSON object by POST, for programs.

    The server is the one that PREFECT_API_URL names, or else the one of `kawan-usaha prefect up`.
    Each kind of notice is an automation there, to be switched off in the UI.
    """
)
def install(as_json: Json = False) -> None:
    """Put channels and automations on the server."""
    from flows.notice_channels import install as put

    channels = put(named_server(), os.environ)
    text = (
        f"Notices go to: {', '.join(channels)}. Try it: `kawan-usaha prefect notices test`.\n"
        "Each kind is an automation in the UI, named `kawan-usaha: notice of …`, and can be "
        "switched off there."
    )
    show({"channels": list(channels)}, as_json=as_json, text=text)


@notices_app.command()
def test(as_json: Json = False) -> None:
    """Send one notice now, and say for each channel whether it was taken. Fails if one was not."""
    from flows.notice_trial import try_out

    sent = try_out(named_server())
    lines = [f"{s.channel}: {'sent' if s.arrived else 'NOT SENT'}, {s.found}" for s in sent]
    show({"sent": sent}, as_json=as_json, text="\n".join(lines))
    if not all(each.arrived for each in sent):
        raise typer.Exit(1)


@notices_app.command()
def remove(as_json: Json = False) -> None:
    """Send no notices any more: remove automations and addresses from the server."""
    from flows.notice_channels import remove as take_away

    removed = take_away(named_server())
    text = f"Removed: {', '.join(removed)}." if removed else "There was nothing to remove."
    show({"removed": removed}, as_json=as_json, text=text)
