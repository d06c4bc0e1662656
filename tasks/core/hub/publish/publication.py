"""What is published: the files of a model directory with their card, under the name of a build."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.core.files.digests import FileDigest
from tasks.core.hub.card.rules import require_valid_card
from tasks.core.hub.publish.build_signature import with_signature
from tasks.core.hub.publish.files import Wanted, require_loads, wanted_files
from tasks.core.hub.publish.license import require_card_terms
from tasks.core.recipe import Publish
from tasks.core.signing import SigningKey


@dataclass(frozen=True)
class Publication:
    """A build that is to be published.

    files are those of the artifact's manifest. build names exactly these files and this card and,
    with a key, whose signature over all of them is published, this key.
    """

    model: Path
    files: Mapping[str, FileDigest]
    card: str
    build: str
    key: SigningKey | None = None

    def wanted(self, target: Publish) -> dict[str, Wanted]:
        """Return the files to publish, by name, without the signature.

        Raises RecipeError for a card or licence that forbids it, and what `wanted_files` and
        `require_loads` raise.
        """
        require_valid_card(self.card)
        require_card_terms(self.card, target)
        wanted = wanted_files(self.model, self.files, self.card)
        require_loads(self.model, wanted)
        return wanted

    def signed(self, wanted: Mapping[str, Wanted], present: bytes | None) -> dict[str, Wanted]:
        """Return the files with the signature over them: the present one where it holds."""
        return with_signature(wanted, self.build, self.key, present)
