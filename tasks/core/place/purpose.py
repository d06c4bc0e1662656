"""What a place is for, and what its library's exceptions mean there.

Goes by an exception's class or error number and imports no library for it: which one is at work
depends on the URL. What is not known here stays what it is.
"""

import errno
from dataclasses import dataclass

from tasks.core.errors import DiskFull, HubUnavailable, KawanUsahaError, UsageError
from tasks.core.files import disk_is_full

_OUT_OF_REACH = {
    "botocore.HTTPClientError",
    "botocore.ConnectionError",
    "aiohttp.ClientError",
    "requests.ConnectionError",
    "requests.Timeout",
}
_NO_KEYS = {
    "botocore.NoCredentialsError",
    "botocore.PartialCredentialsError",
    "botocore.CredentialRetrievalError",
    "botocore.TokenRetrievalError",
    "botocore.ProfileNotFound",
    "google.DefaultCredentialsError",
}
_SERVER_FAILS = {errno.EBUSY, errno.EREMOTEIO, errno.ETIMEDOUT}  # as s3fs translates 5xx answers


@dataclass(frozen=True)
class Purpose:
    """What a place is for, in the words and classes of its errors."""

    noun: str
    setting: str
    refused: type[KawanUsahaError]
    unavailable: type[KawanUsahaError]
    again: str
    make_room: str


PUBLISHING = Purpose(
    noun="target",
    setting="publish.target",
    refused=UsageError,
    unavailable=HubUnavailable,
    again="Publish again later; what has arrived is not sent again.",
    make_room="Remove old builds under builds/, or name another target.",
)


def explanation(error: Exception, url: str, purpose: Purpose) -> KawanUsahaError | None:
    """Return what an exception of a place means, None for one that is not known."""
    kinds = _kinds(error)
    if disk_is_full(error):
        return DiskFull(
            f"There is no room left at the {purpose.noun}.",
            where=url,
            found=error,
            next_step=purpose.make_room,
        )
    is_answer = "botocore.ClientError" in _kinds(error.__cause__)
    fails = is_answer and isinstance(error, OSError) and error.errno in _SERVER_FAILS
    if fails or isinstance(error, ConnectionError | TimeoutError) or kinds & _OUT_OF_REACH:
        return purpose.unavailable(
            f"The {purpose.noun} cannot be reached.",
            where=url,
            found=str(error) or type(error).__name__,
            next_step=purpose.again,
        )
    refusal = _refusal(error, purpose)
    if refusal is None:
        return None
    what, next_step = refusal
    return purpose.refused(what, where=url, found=error, next_step=next_step)


def is_precondition(error: OSError) -> bool:
    """Return whether a server refused since there is something already (`If-None-Match: *`)."""
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("Error", {}).get("Code") in ("PreconditionFailed", "412")


def _refusal(error: Exception, purpose: Purpose) -> tuple[str, str] | None:
    """Return what is refused for a reason that stays, and the next step."""
    noun, setting = purpose.noun, purpose.setting
    if isinstance(error, PermissionError) or _kinds(error) & _NO_KEYS:
        return (
            f"The {noun} may not be written to or read.",
            "Give this account the right to it; keys for a bucket come from the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and so on).",
        )
    if isinstance(error, NotADirectoryError | FileExistsError):
        return (
            f"A file stands where a directory of the {noun} should be.",
            f"Name another directory in `{setting}`, or move the file away.",
        )
    if isinstance(error, FileNotFoundError) and error.filename is None:  # not a file of ours
        return f"The {noun} is not there.", f"Make the bucket first, or correct `{setting}`."
    if "botocore.ClientError" in _kinds(error.__cause__):
        return (
            f"The {noun} refuses what it is asked for.",
            f"Check `{setting}`, and region and address of the service (AWS_ENDPOINT_URL).",
        )
    return None


def _kinds(error: BaseException | None) -> set[str]:
    """Return the classes of an exception as package.Name."""
    return {f"{k.__module__.partition('.')[0]}.{k.__name__}" for k in type(error).__mro__}
