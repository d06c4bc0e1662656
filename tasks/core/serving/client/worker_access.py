"""How the gateway accesses its workers: the key and the certificate of each.

    <home>/serving/<name>/workers.json     mode 0600, because it holds keys

A recipe names a variable and a file that only the person who deploys has. Their content is stored
here once the worker has accepted it, so that a restarted gateway, and a deployment after a reboot,
still have it; `stop` removes the file.
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
    """Return the access to each worker, by its URL. Raises ServingFailed."""
    try:
        return _File.validate_json(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        raise ServingFailed(
            "The keys of the workers cannot be read.",
            where=file,
            found=type(error).__name__,  # its message would contain a key
            next_step="Remove the file, and deploy again with the keys in the environment.",
        ) from None


def write_access(file: Path, access: Mapping[str, Access]) -> None:
    """Store the access to each worker, readable by its owner only."""
    write_private(file, _File.dump_json(dict(access), indent=2))
