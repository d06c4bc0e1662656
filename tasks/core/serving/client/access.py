"""What a server is asked with that does not answer everybody: a key, and whom to take for it."""

import ssl

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Access(BaseModel):
    """The way into one server: a worker on another machine, or an engine that proves itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str = Field(repr=False)
    certificate: str | None = Field(
        None, repr=False, description="PEM: all that is trusted there. None: the public ones."
    )

    @field_validator("certificate")
    @classmethod
    def _is_one(cls, certificate: str | None) -> str | None:
        try:
            trusted(certificate)
        except (ssl.SSLError, TypeError, ValueError) as error:  # not in ASCII, or with a NUL
            raise ValueError(f"no certificate in PEM: {error}") from error
        return certificate


def trusted(certificate: str | None) -> ssl.SSLContext | bool:
    """Return what httpx verifies a server by that shows this certificate, or a public one."""
    return True if certificate is None else ssl.create_default_context(cadata=certificate)


def verified(url: str, certificate: str | None = None) -> ssl.SSLContext | bool:
    """Return what httpx verifies the server at this address by: nothing where it is asked in plain.

    To read the public certificates takes 35 ms of a core, and is done for each client otherwise.
    """
    return url.startswith("https:") and trusted(certificate)
