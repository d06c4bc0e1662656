"""One request to a server, with a time limit: its answer, or an error that says what is wrong."""

from collections.abc import Mapping

from tasks.core.errors import ServingFailed
from tasks.core.serving.client.access import Access, verified

QUICK_S = 60.0
"""A busy machine answers late; a dead process refuses the connection at once."""


class KeyRefused(ServingFailed):
    """A server does not accept the key."""


def request_text(
    method: str,
    url: str,
    body: Mapping[str, object] | None = None,
    *,
    access: Access | None = None,
    timeout_s: float = QUICK_S,
) -> str:
    """Return the body of an answer with status 200. Raises ServingFailed without one in time.

    body is sent as JSON. access is for a server that does not answer everybody; raises KeyRefused
    if it does not accept the key.
    """
    import httpx  # a fifth of the time of `kawan-usaha status`, needed only for a deployment

    headers = {"Authorization": f"Bearer {access.key}"} if access else {}
    verify = verified(url, access.certificate if access else None)
    try:
        # trust_env: requests to this machine itself must not go to a proxy of the environment.
        with httpx.Client(trust_env=False, verify=verify, timeout=timeout_s) as client:
            response = client.request(method, url, json=body, headers=headers)
    except httpx.TimeoutException as error:
        raise bad_answer("No answer in time.", url, f"nothing within {timeout_s:.0f} s") from error
    except httpx.HTTPError as error:
        raise bad_answer("No connection.", url, error) from error
    if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise KeyRefused(
            "The server does not accept the key.", where=url, found=response.text[:500]
        )
    if response.status_code != httpx.codes.OK:
        found = f"{response.status_code} {response.text[:500]}"
        raise bad_answer("The answer is an error.", url, found)
    return response.text


def bad_answer(what: str, where: str, found: object, expected: object = None) -> ServingFailed:
    """Return the error for a server that does not answer as expected."""
    return ServingFailed(
        what,
        where=where,
        expected=expected,
        found=found,
        next_step="`kawan-usaha status` and the logs tell more.",
    )
