"""Who is measured against whom, each as a command line of its own."""

import subprocess
import sys
import venv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tests.benchmarks import upload_contenders

Kind = Literal["merge", "fuse", "hash", "upload"]

OURS = "ours"
LIMIT = "limit"
MERGEKIT = "mergekit"
MERGEKIT_REQUIREMENTS = ("torch==2.13.0", "mergekit==0.1.5")

_OURS = """
import sys
from pathlib import Path
from tasks.core.weights.{module} import {function}
{function}(*map(Path, sys.argv[1:]))
"""

_LIMIT = """
set -e
out=$1; copied=$2; shift 2
mkdir -p "$out"
cat "$@" > /dev/null
cp "${@:1:copied}" "$out"
"""

_HASH = """
import sys
from pathlib import Path
from tasks.core.files.digests import digests_of
digests_of([Path(file) for file in sys.argv[1:]])
"""

_PEFT = """
import sys
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
model, adapter, out = sys.argv[1:]
loaded = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
PeftModel.from_pretrained(loaded, adapter).merge_and_unload().save_pretrained(out)
AutoTokenizer.from_pretrained(model).save_pretrained(out)
"""

_MERGEKIT_CONFIG = """\
# base + delta, as it stands: task_arithmetic would subtract the base from the delta first.
merge_method: linear
parameters: {{normalize: false}}
dtype: float16
models:
  - model: {base}
    parameters: {{weight: 1.0}}
  - model: {delta}
    parameters: {{weight: 1.0}}
"""


@dataclass(frozen=True)
class Inputs:
    """The directories that all contenders read."""

    base: Path
    delta: Path
    adapter: Path
    work: Path


@dataclass(frozen=True)
class Contender:
    """A command that writes a model, or the reason why there is none."""

    kind: Kind
    name: str
    command: tuple[str, ...] = ()
    absent: str | None = None

    @property
    def key(self) -> str:
        """A name that is unique among all contenders."""
        return f"{self.kind}-{self.name}"


def contenders(inputs: Inputs, out: Path, only: frozenset[str] = frozenset()) -> list[Contender]:
    """Return all contenders, or those of these kinds, names or keys; results are written to out."""
    everyone = _everyone(inputs, out)
    chosen = [each for each in everyone if not only or {each.kind, each.name, each.key} & only]
    return [_installed(each, inputs) if each.name == MERGEKIT else each for each in chosen]


def _everyone(inputs: Inputs, out: Path) -> list[Contender]:
    base, delta, adapter = map(str, (inputs.base, inputs.delta, inputs.adapter))
    python, shards = sys.executable, shards_of(inputs.base)
    apply_delta = (
        "--base-model-path",
        base,
        "--target-model-path",
        str(out),
        "--delta-path",
        delta,
    )
    return [
        Contender("merge", LIMIT, limit(out, inputs.base, inputs.delta)),
        Contender(
            "merge", OURS, (python, "-c", _ours("merge", "merge_delta"), base, delta, str(out))
        ),
        Contender("merge", "fastchat", (python, "-m", "fastchat.model.apply_delta", *apply_delta)),
        Contender("merge", MERGEKIT, _mergekit(inputs, out)),
        Contender("fuse", LIMIT, limit(out, inputs.base, inputs.adapter)),
        Contender(
            "fuse", OURS, (python, "-c", _ours("fuse", "fuse_adapter"), base, adapter, str(out))
        ),
        Contender("fuse", "peft", (python, "-c", _PEFT, base, adapter, str(out))),
        Contender("hash", LIMIT, ("bash", "-c", 'cat "$@" > /dev/null', "limit", *shards)),
        Contender("hash", OURS, (python, "-c", _HASH, *shards)),
        Contender("hash", "sha256sum", ("sha256sum", *shards)),
        Contender("upload", OURS, upload_contenders.ours(inputs.base)),
        Contender("upload", "hf upload", upload_contenders.hf(inputs.base)),
    ]


def _ours(module: str, function: str) -> str:
    return _OURS.format(module=module, function=function)


def shards_of(model: Path) -> list[str]:
    """Return the weight files of a directory, in order."""
    return sorted(map(str, model.glob("*.safetensors")))


def limit(out: Path, copied: Path, *others: Path) -> tuple[str, ...]:
    """Return a command that reads all inputs once and writes as many bytes as the result has."""
    first = shards_of(copied)
    rest = [shard for other in others for shard in shards_of(other)]
    return ("bash", "-c", _LIMIT, "limit", str(out), str(len(first)), *first, *rest)


def _mergekit(inputs: Inputs, out: Path) -> tuple[str, ...]:
    program = inputs.work / MERGEKIT / "bin" / "mergekit-yaml"
    return str(program), str(inputs.work / "mergekit.yaml"), str(out), "--quiet"


def _installed(mergekit: Contender, inputs: Inputs) -> Contender:
    """Return the contender with its environment made, or with the reason why there is none."""
    home = inputs.work / MERGEKIT
    if not Path(mergekit.command[0]).exists():
        venv.create(home, with_pip=True, clear=True)
        pip = [str(home / "bin" / "pip"), "install", "--quiet", *MERGEKIT_REQUIREMENTS]
        installed = subprocess.run(pip, capture_output=True, text=True, check=False)
        if installed.returncode != 0:
            words = installed.stderr.strip().splitlines() or ["no reason given"]
            return replace(mergekit, absent=f"does not install: {words[-1][:200]}")
    config = _MERGEKIT_CONFIG.format(base=inputs.base, delta=inputs.delta)
    Path(mergekit.command[1]).write_text(config)
    return mergekit
