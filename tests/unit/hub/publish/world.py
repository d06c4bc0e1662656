"""What the tests of publishing share: a build, a Hub that counts, and how it can be disturbed."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoFile
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.core.demo.hub import HubAccount, running_hub
from tasks.core.files.digests import FileDigest, digest_of
from tasks.core.hub.card.text import CardFacts, LineageStep, render_card
from tasks.core.hub.publish.publication import Publication
from tasks.core.hub.publish.receipt import Receipt
from tasks.core.hub.publish.to_hub.protocol import publish_to_hub
from tasks.core.recipe import Publish
from tasks.core.signing import SigningKey
from tests.hub_faults import Faults

WRITER, READER = "hf_writer", "hf_reader"
REPO = "kawan/usaha"
TARGET = Publish(repo=REPO, license="apache-2.0")


def card_of(build: str) -> str:
    return render_card(
        CardFacts(
            name="kawan-usaha",
            build=build,
            place=REPO,
            summary="A test.",
            language="id",
            license="apache-2.0",
            lineage=(LineageStep("base", "some/base", "abc", repo="some/base"),),
            template="vicuna_v1.1",
            prompt_example="USER: Halo ASSISTANT:",
            how_to_load="Load it.",
            how_to_rebuild="Rebuild it.",
            recipe_yaml="name: test",
            files=(),
        )
    )


@dataclass(frozen=True)
class Build:
    """A model directory, and what its manifest says."""

    name: str
    model: Path
    files: dict[str, FileDigest]

    @classmethod
    def of(cls, name: str, model: Path) -> "Build":
        """Return a build of all files that lie in a model directory."""
        return cls(name, model, {path.name: digest_of(path) for path in sorted(model.iterdir())})

    @property
    def card(self) -> str:
        return card_of(self.name)

    @property
    def size_bytes(self) -> int:
        return sum(f.size_bytes for f in self.files.values()) + len(self.card.encode())

    def publication(self, key: SigningKey | None = None) -> Publication:
        return Publication(self.model, self.files, self.card, self.name, key)

    def publish(
        self, target: Publish = TARGET, *, key: SigningKey | None = None, **options
    ) -> Receipt:
        return publish_to_hub(self.publication(key), target, **options)


@dataclass
class Uploads:
    """Counts what arrives in LFS uploads, and can hold some after their first piece."""

    received_bytes: int = 0
    complete: Counter[str] = field(default_factory=Counter)
    hold_from: int | None = None
    """After this many complete uploads those that begin are held, until `go_on`."""
    held: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    rest_is_lost: bool = False
    """What follows the held piece never arrives, as when the sender dies."""
    under_way: int = 0
    most_at_once: int = 0

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        pieces = 0
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)

        async def counting() -> Message:
            nonlocal pieces
            message = await receive()
            self.received_bytes += len(message.get("body", b""))
            pieces += 1
            holds = self.hold_from is not None and self.complete.total() >= self.hold_from
            if pieces == 1 and holds:
                self.held.set()
                while not self.go_on.is_set():
                    await asyncio.sleep(0.01)
                if self.rest_is_lost:
                    return {"type": "http.disconnect"}
            return message

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                self.complete[scope["path"].rsplit("/", 1)[-1]] += 1
            await send(message)

        try:
            await app(scope, counting, noting)
        finally:
            self.under_way -= 1


@dataclass(frozen=True)
class PublishHub:
    """The Hub under test, and the real client's view of it."""

    url: str
    faults: Faults
    uploads: Uploads

    @property
    def api(self) -> HfApi:
        return HfApi(endpoint=self.url, token=WRITER)

    def files(self, revision: str = "main") -> dict[str, str]:
        """Return the content ids of a revision's files, the Hub's own file left out."""
        entries = self.api.list_repo_tree(REPO, revision=revision, recursive=True)
        return {
            entry.path: entry.blob_id
            for entry in entries
            if isinstance(entry, RepoFile) and entry.path != ".gitattributes"
        }

    def refs(self) -> tuple[set[str], set[str]]:
        refs = self.api.list_repo_refs(REPO)
        return {ref.name for ref in refs.branches}, {ref.name for ref in refs.tags}

    def writes(self) -> list[str]:
        """Return the requests so far that changed something."""
        return [
            f"{one.method} {one.path}"
            for one in self.faults.served
            if (one.method == "PUT" or "/commit/" in one.path or "/tag/" in one.path)
            and one.method != "GET"
        ]

    def visible(self) -> dict[str, str]:
        """Return what main shows, nothing when there is no repository yet."""
        return self.files() if self.api.repo_exists(REPO) else {}


@contextmanager
def publish_hub(root: Path) -> Iterator[PublishHub]:
    """Run an empty Hub, and make this process's client and its children talk to it."""
    tokens = {WRITER: HubAccount("kawan"), READER: HubAccount("kawan", role="read")}
    faults, uploads = Faults(), Uploads()
    faults.add(uploads, r"^/lfs/", method="PUT", times=10**6)
    with (
        pytest.MonkeyPatch.context() as patch,
        running_hub(root, tokens=tokens, middleware=faults.around) as address,
    ):
        # Read from the environment only when huggingface_hub is imported, which was long ago.
        patch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        patch.setenv("HF_HUB_DISABLE_XET", "1")
        patch.setenv("HF_ENDPOINT", address.url)
        patch.setenv("HF_TOKEN", WRITER)
        yield PublishHub(address.url, faults, uploads)
