"""The additions of a commit, in a form that huggingface_hub sends by a protocol the Hub speaks.

An embedded Hub speaks LFS only. huggingface_hub sends a path by Xet unless HF_HUB_DISABLE_XET was
set before it was imported, when it is not known yet which Hub a run will use; an open file it
always sends by LFS (`_commit_api._upload_files`).
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd

from tasks.core.hub.client import is_on_this_machine
from tasks.core.system.threads import pause


class _Opened(io.BufferedReader):
    """A file whose upload is interrupted once the work around it is to end."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes."""
        pause(0)
        return super().read(size)


@contextmanager
def additions(
    endpoint: str, sources: Mapping[str, Path | bytes]
) -> Iterator[list[CommitOperationAdd]]:
    """Yield the additions of a commit for the Hub at an endpoint; sources are by name."""
    added = [CommitOperationAdd(name, source) for name, source in sources.items()]
    with ExitStack() as stack:
        if is_on_this_machine(endpoint):
            for addition, source in zip(added, sources.values(), strict=True):
                if isinstance(source, Path):
                    # Only now: the constructor would hash an open file at once.
                    opened = _Opened(source.open("rb", buffering=0))
                    addition.path_or_fileobj = stack.enter_context(opened)
        yield added
