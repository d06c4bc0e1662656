"""A Hub with a tiny base and its delta, data for all stages, and recipes that use them."""

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi
from starlette.types import ASGIApp, Receive, Scope, Send

from tasks.core.demo.hub.server import running_hub
from tasks.core.process.ports import free_port
from tests.hub_faults import Faults
from tests.models import tiny_delta, tiny_llama

MANY = "many.json"
MANY_PROMPTS = "many_prompts.json"
FEW = "few.json"
_HELD_S = 240


class Held:
    """A request that the Hub does not answer before whoever asks has gone."""

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait."""
        await asyncio.sleep(_HELD_S)
        await app(scope, receive, send)


@dataclass(frozen=True)
class World:
    """Where its files lie, what the Hub was asked for, and the environment that leads there."""

    root: Path
    faults: Faults
    env: dict[str, str]

    def recipe(self, file: Path, **sections: Mapping[str, Any] | None) -> Path:
        """Write a recipe of every stage but edit, with these sections changed, and return file.

        The training takes one step on few conversations.
        """
        recipe: dict[str, Any] = {
            "name": file.stem,
            "base": {"repo": "kawan-usaha/base"},
            "delta": {"repo": "kawan-usaha/delta"},
            "finetune": {
                "data": str(self.root / FEW),
                "device": "cpu",
                "precision": "float32",
                "zero_stage": 0,
                "micro_batch_size": 1,
                "gradient_accumulation_steps": 1,
                "max_steps": 1,
                "epochs": 100_000,
                "warmup_ratio": 0.0,
                "learning_rate": 1e-3,
                "max_length_tokens": 256,
                "same_speaker": "merge",
                "language": None,
            },
            "evaluate": {
                "conversations": str(self.root / "held_out.json"),
                "prompts": str(self.root / "prompts.json"),
                "device": "cpu",
                "max_new_tokens": 4,
            },
            "publish": {"repo": "kawan-usaha/released", "license": "apache-2.0"},
            "deploy": {
                "device": "cpu",
                "gateway": {"port": free_port()},
            },
        }
        for name, changes in sections.items():
            recipe[name] = None if changes is None else {**recipe.get(name, {}), **changes}
        file.write_text(yaml.safe_dump(recipe))
        return file


@contextmanager
def tiny_world(root: Path) -> Iterator[World]:
    """Yield the world, whose Hub answers until the block ends."""
    _write_data(root)
    tiny_llama(root / "base", seed=1, sharded=True)
    tiny_delta(root / "base", tiny_llama(root / "target", seed=2), root / "delta")
    faults = Faults()
    with running_hub(root / "hub", middleware=faults.around) as hub:
        client = HfApi(endpoint=hub.url, token=hub.token)
        for name in ("base", "delta"):
            client.create_repo(f"kawan-usaha/{name}")
            client.upload_folder(repo_id=f"kawan-usaha/{name}", folder_path=root / name)
        yield World(root, faults, {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token})


def _write_data(root: Path) -> None:
    turns = [{"from": "human", "value": "Halo?"}, {"from": "gpt", "value": "Halo juga, apa kabar?"}]
    (root / "held_out.json").write_text(json.dumps([{"id": "a", "conversations": turns}]))
    (root / "prompts.json").write_text(json.dumps([{"id": "p", "prompt": "Apa itu NIB?"}]))
    prompts = [{"id": f"p{number}", "prompt": f"Apa itu NIB {number}?"} for number in range(20_000)]
    (root / MANY_PROMPTS).write_text(json.dumps(prompts))
    records = [
        {
            "id": str(number),
            "conversations": [
                {"from": "human", "value": f"Halo, nomor {number}?"},
                {"from": "gpt", "value": f"Nomor {number} ada di warung kami."},
            ],
        }
        for number in range(40_000)
    ]
    (root / MANY).write_text(json.dumps(records))
    (root / FEW).write_text(json.dumps(records[:20]))
