"""Credentials for a server that does not answer everybody: a key, and a trusted certificate."""

import ssl

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Access(BaseModel):
    """How to access one server: a worker on another machine, or an engine that proves itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str = Field(repr=False)
    certificate: str | None = Field(
        None,
        repr=False,
        description="PEM: the only certificates trusted there. None: the public ones.",
    )

    @field_validator("certificate")
    @classmethod
    def _is_valid(cls, certificate: str | None) -> str | None:
        try:
            trusted(certificate)
        except (ssl.SSLError, TypeError, ValueError) as error:  # not in ASCII, or with a NUL
            raise ValueError(f"not a certificate in PEM: {error}") from error
        return certificate


def trusted(certificate: str | None) -> ssl.SSLContext | bool:
    """Return what httpx verifies a server with: this certificate, or the public ones."""
    return True if certificate is None else ssl.create_default_context(cadata=certificate)


def verified(url: str, certificate: str | None = None) -> ssl.SSLContext | bool:
    """Return what httpx verifies the server at this URL with, False for plain HTTP.

    Reading the public certificates takes 35 ms, and httpx otherwise does it for each client.
    """
    return url.startswith("https:") and trusted(certificate)
