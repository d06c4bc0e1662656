"""A base and its delta on the embedded Hub, and answers that are held back or wrong midway."""

import asyncio
import threading
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import HfApi
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.unit.hub.download.ahead_world import BASE, DELTA
from tests.unit.weights.models import Form, base_model, delta_for

SHAPE = {"hidden": 256, "layers": 4, "vocab": 2000}
"""7 MB: each of four files is larger than what is fetched to see a header."""
_LONGEST_S = 120


def publish_pair(owner: HfApi, root: Path, base_form: Form, delta_form: Form) -> tuple[Path, Path]:
    """Make a base and a delta, bring both to the Hub, and return where they were made."""
    base = base_model(root / "base", form=base_form, **SHAPE)
    delta = delta_for(base, root / "delta", form=delta_form)
    for repo, directory in ((BASE, base), (DELTA, delta)):
        owner.create_repo(repo)
        owner.upload_folder(repo_id=repo, folder_path=directory)
    return base, delta


@dataclass
class Whole:
    """Disturbs an answer that is the whole file, and lets those pass that are ranges of it.

    After `held_after` bytes it waits for `released`. The byte at `wrong_at` is another in so many
    answers as `wrong_times` says.
    """

    held_after: int | None = None
    wrong_at: int | None = None
    wrong_times: int = 1
    released: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        if b"range" in dict(scope["headers"]):
            await app(scope, receive, send)
            return
        wrong = self.wrong_at if self.wrong_times > 0 else None
        self.wrong_times -= 1
        sent = 0

        async def disturbed(message: Message) -> None:
            nonlocal sent
            body = bytearray(message.get("body", b""))
            if wrong is not None and sent <= wrong < sent + len(body):
                body[wrong - sent] ^= 0x01
            if self.held_after is None or sent + len(body) <= self.held_after:
                sent += len(body)
                await send({**message, "body": bytes(body)} if body else message)
                return
            first = max(0, self.held_after - sent)
            await send({**message, "body": bytes(body[:first]), "more_body": True})
            for _ in range(_LONGEST_S * 100):
                if self.released.is_set():
                    break
                await asyncio.sleep(0.01)
            sent += len(body)
            await send({**message, "body": bytes(body[first:])})

        await app(scope, receive, disturbed)
