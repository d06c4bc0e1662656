"""The signatures of this machine's artifacts, kept beside the store.

<home>/store/.signed/<stage>-<key>/<fingerprint>.sig   by each key that signed the artifact
<home>/store/.signed/<stage>-<key>/model.sig           that of a download's source
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.core.files.durable import make_directory, write_atomically

SIGNED = ".signed"
SUFFIX = ".sig"
SOURCE = "model.sig"
"""The name of the signature that the source of a download publishes."""
_FINGERPRINT_DIGITS = 64


@dataclass(frozen=True)
class KeptSignatures:
    """The signatures of one artifact of the store at root."""

    root: Path
    name: str

    @property
    def directory(self) -> Path:
        """Where they are."""
        return self.root / SIGNED / self.name

    @property
    def of_source(self) -> Path:
        """Where the signature is that the source of a download publishes."""
        return self.directory / SOURCE

    def add(self, signatures: Mapping[str, bytes]) -> None:
        """Keep these signatures, by the fingerprints of their keys."""
        for fingerprint, signature in signatures.items():
            make_directory(self.directory)
            write_atomically(self.directory / f"{fingerprint}{SUFFIX}", signature)

    def all(self) -> dict[str, bytes]:
        """Return the signatures that are kept, by the fingerprints of their keys."""
        return dict(self._read())

    def forget(self) -> None:
        """Remove them, because their artifact is removed or rebuilt."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _read(self) -> Iterator[tuple[str, bytes]]:
        with suppress(FileNotFoundError):
            for path in sorted(self.directory.iterdir()):
                if path.suffix == SUFFIX and len(path.stem) == _FINGERPRINT_DIGITS:
                    yield path.stem, path.read_bytes()
