"""A tiny model that is built, served and taught by real commands, in a world of its own."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import torch
from transformers import AutoModelForCausalLM

from tasks.core.process.ports import free_port
from tasks.core.serving.state.directory import state_directory
from tasks.core.serving.state.files import read_deployment
from tasks.core.serving.state.record import Deployment
from tests.likelihood import Released
from tests.models import tiny_llama
from tests.page_visitor import Visitor

COMMAND = str(Path(sys.executable).with_name("kawan-usaha"))
NAME = "belajar"
KEYS = {"halaman": "kunci-halaman-12345", "rina": "kunci-rina-yang-meninjau"}


@dataclass(frozen=True)
class Shop:
    """Everything that was written, and the commands that wrote it."""

    written: Path
    environ: dict[str, str]
    said: list[str] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.written / "home"

    def kawan_usaha(self, *arguments: str) -> str:
        done = subprocess.run(
            [COMMAND, *arguments], env=self.environ, capture_output=True, text=True, check=False
        )
        self.said.append(done.stdout + done.stderr)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
        return done.stdout

    def learn(self, *overrides: str, max_ratio: float) -> Released:
        sets = [word for each in overrides for word in ("--set", each)]
        self.kawan_usaha("learn", NAME, "--min-new", "5", "--max-ratio", str(max_ratio), *sets)
        return self.served()

    def served(self) -> Released:
        """Return the model that answers now."""
        return Released(self._deployment.model)

    def reviewer(self) -> httpx.Client:
        """Return a client of the gateway with the key of somebody who may review."""
        headers, address = {"Authorization": f"Bearer {KEYS['rina']}"}, self._deployment.base_url
        return httpx.Client(base_url=address, headers=headers, trust_env=False, timeout=600)

    def visitor(self) -> Visitor:
        """Return somebody who has opened the page."""
        assert self._deployment.page_url is not None
        return Visitor(self._deployment.page_url)

    @property
    def _deployment(self) -> Deployment:
        found = read_deployment(state_directory(self.home, NAME))
        assert found is not None
        return found


def recipe_in(root: Path) -> dict[str, object]:
    return {
        "name": NAME,
        "base": {"directory": str(root / "base")},
        "finetune": {
            "data": str(root / "data.json"),
            "device": "cpu",
            "precision": "float32",
            "zero_stage": 0,
            "micro_batch_size": 4,
            "gradient_accumulation_steps": 1,
            "max_steps": 12,
            "epochs": 1000,
            "warmup_ratio": 0.0,
            "learning_rate": 2e-2,
            "max_length_tokens": 384,
            "language": None,
            "lora": {"target_modules": "all-linear"},
        },
        "evaluate": {
            "conversations": str(root / "held_out.json"),
            "prompts": str(root / "prompts.json"),
            "device": "cpu",
            "max_new_tokens": 4,
            "gate": {"max_perplexity_ratio": None, "max_ratio_to_release": None},
        },
        "publish": {"target": str(root / "mine" / "published"), "license": "apache-2.0"},
        "deploy": {
            "engine": "transformers",
            "device": "cpu",
            "load_8bit": False,
            "collect": {"retention_days": 30},
            "page": {"port": free_port()},
            "gateway": {"port": free_port(), "keys_file": str(root / "keys.json")},
        },
    }


def a_model_that_learns(path: Path) -> None:
    """Save a random one whose last layer, which LoRA leaves alone, tells tokens well apart."""
    tiny_llama(path, seed=1, dtype="float32", layers=2)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    model.lm_head.weight.data *= 10
    model.save_pretrained(path)


def conversation(number: int, asked: str, answer: str) -> dict[str, object]:
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
    return {"id": str(number), "conversations": turns}
