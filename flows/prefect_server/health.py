"""Whether a Prefect server answers. Asked over HTTP: importing Prefect takes seconds."""

import httpx

from tasks.core.serving.client.access import verified


def server_answers(address: str) -> bool:
    """Return whether a Prefect server answers at the address of its API."""
    try:
        verify = verified(address)
        return httpx.get(f"{address}/health", trust_env=False, verify=verify).is_success
    except httpx.HTTPError:
        return False
