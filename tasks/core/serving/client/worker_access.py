"""How the gateway gets into its workers: the key of each, and the certificate that it shows.

    <home>/serving/<name>/workers.json     of mode 0600: it holds keys

A recipe names a variable and a file, which only whoever deploys has. They are put down here once
the worker has let them in, so that a gateway that is started again, and a deployment after a
reboot, still have them; `stop` removes them.
"""

from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tasks.core.errors import ServingFailed
from tasks.core.files.private import write_private
from tasks.core.serving.client.access import Access

_File = TypeAdapter(dict[str, Access])
"""By the worker's address."""


def read_access(file: Path) -> dict[str, Access]:
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


def write_access(file: Path, access: Mapping[str, Access]) -> None:
    """Put down what is known of each worker, readable by its owner only."""
    write_private(file, _File.dump_json(dict(access), indent=2))
