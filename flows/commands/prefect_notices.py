"""`kawan-usaha prefect notices`: notices by mail, chat or webhook."""

import typer

from flows.command_line.output import AsJson, show
from flows.prefect_server.pools import MESSAGE_VARIABLE, WEBHOOK_VARIABLE

app = typer.Typer(
    no_args_is_help=True,
    help="Get notices by mail, chat or webhook when a rebuild succeeds, fails, crashes or is "
    "refused by its gate, when a fine-tune retries with less memory, and when a service is down.",
)


@app.command(
    help=f"""Send notices from now on. Run it again after an address has changed.

    Two variables name the addresses; set one or both. They hold passwords, so they are not options.
    The server stores them in blocks.

    `{MESSAGE_VARIABLE}`: mail or chat, for people.
    `mailtos://user:password@smtp.example.org?from=kawan@example.org&to=team@example.org`, the
    address of a Slack webhook, or another one that https://github.com/caronc/apprise/wiki lists

    `{WEBHOOK_VARIABLE}`: an https address that accepts a JSON object by POST, for programs.

    The server is the one that PREFECT_API_URL names, or that of `kawan-usaha prefect up`. Each kind
    of notice is an automation, which can be switched off in the UI.

    Example: `kawan-usaha prefect notices install`
    """
)
def install(as_json: AsJson = False) -> None:
    """Install channels and automations on the server."""
    from flows.actions.prefect_notices import install_notices

    channels = install_notices()
    text = (
        f"Notices go to: {', '.join(channels)}. Test it: `kawan-usaha prefect notices test`.\n"
        "Each kind is an automation in the UI, named `kawan-usaha: notice of …`, and can be "
        "switched off there."
    )
    show({"channels": list(channels)}, as_json=as_json, text=text)


@app.command()
def test(as_json: AsJson = False) -> None:
    """Send a test notice, and report for each channel whether it was accepted.

    Exit code 1 if a channel failed.

    Example: `kawan-usaha prefect notices test`
    """
    from flows.actions.prefect_notices import send_test

    sent = send_test()
    lines = [f"{s.channel}: {'sent' if s.arrived else 'NOT SENT'}, {s.found}" for s in sent]
    show({"sent": sent}, as_json=as_json, text="\n".join(lines))
    if not all(each.arrived for each in sent):
        raise typer.Exit(1)


@app.command()
def remove(as_json: AsJson = False) -> None:
    """Stop sending notices: remove automations and addresses from the server.

    Example: `kawan-usaha prefect notices remove`
    """
    from flows.actions.prefect_notices import remove_notices

    removed = remove_notices()
    text = f"Removed: {', '.join(removed)}." if removed else "There was nothing to remove."
    show({"removed": removed}, as_json=as_json, text=text)
