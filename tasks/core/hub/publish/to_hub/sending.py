"""What an upload sends, in the form that makes huggingface_hub speak the Hub's own protocol.

A Hub on this machine speaks LFS; huggingface_hub sends a path by Xet unless HF_HUB_DISABLE_XET was
set before it was imported, when nobody knows yet which Hub a run will use. What it has to read from
an open file it always sends by LFS (`_commit_api._upload_files`).
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd

from tasks.core.hub.client import is_on_this_machine
from tasks.core.system.threads import pause


class _Opened(io.BufferedReader):
    """A file whose sending is Interrupted once the work around it is to end."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes."""
        pause(0)
        return super().read(size)


@contextmanager
def additions(
    endpoint: str, sources: Mapping[str, Path | bytes]
) -> Iterator[list[CommitOperationAdd]]:
    """Give a commit's additions, by name in the repository, for the Hub at an endpoint."""
    added = [CommitOperationAdd(name, source) for name, source in sources.items()]
    with ExitStack() as stack:
        if is_on_this_machine(endpoint):
            for addition, source in zip(added, sources.values(), strict=True):
                if isinstance(source, Path):
                    # Not given to it before: of what is open it takes the SHA-256 at once.
                    opened = _Opened(source.open("rb", buffering=0))
                    addition.path_or_fileobj = stack.enter_context(opened)
        yield added
