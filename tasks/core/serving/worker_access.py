"""How the gateway gets into its workers: the key of each, and the certificate that it shows.

    <home>/serving/<name>/workers.json     of mode 0600: it holds keys

A recipe names a variable and a file, which only whoever deploys has. They are put down here once
the worker has let them in, so that a gateway that is started again, and a deployment after a
reboot, still have them; `stop` removes them.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from tasks.core.errors import ServingFailed
from tasks.core.private import write_private


class WorkerAccess(BaseModel):
    """What one worker is asked with."""

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
        except ssl.SSLError as error:
            raise ValueError(f"no certificate in PEM: {error}") from error
        return certificate


_File = TypeAdapter(dict[str, WorkerAccess])
"""By the worker's address."""


def read_access(file: Path) -> dict[str, WorkerAccess]:
    """Return what is known of each worker, by its address. Raises ServingFailed."""
    try:
        return _File.validate_json(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        raise ServingFailed(
            "The keys of the workers cannot be read.",
            where=file,
            found=type(error).__name__,  # its words would hold a key
            next_step="Remove the file, and deploy again with the keys in the environment.",
        ) from None


def write_access(file: Path, access: Mapping[str, WorkerAccess]) -> None:
    """Put down what is known of each worker, readable by its owner only."""
    write_private(file, _File.dump_json(dict(access), indent=2))


def trusted(certificate: str | None) -> ssl.SSLContext | bool:
    """Return what httpx verifies a server by."""
    return True if certificate is None else ssl.create_default_context(cadata=certificate)
