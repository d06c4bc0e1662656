"""The client of a Hub: which endpoint, and with which token.

The endpoint is read from HF_ENDPOINT at each call and passed on explicitly, because huggingface_hub
reads the variable only once, when it is imported. A token comes from HF_TOKEN or from the login of
`hf auth login`, and never stands in a message.
"""

import ipaddress
import os
from urllib.parse import urlsplit

from huggingface_hub import HfApi, get_token

from tasks.core.errors import (
    WrongToken,
)

DEFAULT_ENDPOINT = "https://huggingface.co"
TIMEOUT_S = 30.0
ASK_TIMEOUT_S = 10.0
"""For a question that must be answered before a run can begin."""


def endpoint() -> str:
    """Return the address of the Hub that HF_ENDPOINT names now, by default huggingface.co."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def usable_token(token: str | None = None) -> str | None:
    """Return the token to send to the endpoint: the one given, else HF_TOKEN, else the login's.

    The login belongs to huggingface.co and goes to no other endpoint. Raises WrongToken for what
    cannot be a token; the HTTP library would refuse it with a message that shows it.
    """
    found = token or os.environ.get("HF_TOKEN")
    if not found and endpoint() == DEFAULT_ENDPOINT:
        found = get_token()
    found = (found or "").strip()
    if not (found.isascii() and found.isprintable()) or " " in found:
        raise WrongToken(
            "The token contains characters that no token has.",
            where="HF_TOKEN",
            next_step="Copy it again: it is one word that begins with hf_.",
        )
    return found or None


def api(token: str | None = None) -> HfApi:
    """Return a client of the present endpoint that sends the usable token, or none at all.

    Raises WrongToken.
    """
    return HfApi(
        endpoint=endpoint(), token=usable_token(token) or False, library_name="kawan-usaha"
    )


def is_on_this_machine(address: str) -> bool:
    """Return whether a Hub's address belongs to the loopback interface."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
