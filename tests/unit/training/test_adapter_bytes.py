"""The same training writes the same bytes: what comes after it is made once."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tasks.core.home import PROJECT
from tests.models import tiny_llama

_WRITES = """
import sys
from pathlib import Path
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM
from tasks.core.training.trainer.adapter_writing import trained_parameters, write_adapter
config = LoraConfig(task_type="CAUSAL_LM", target_modules=["v_proj", "q_proj"])
model = get_peft_model(LlamaForCausalLM.from_pretrained(sys.argv[1]), config)
write_adapter(model, trained_parameters(model), Path(sys.argv[2]))
"""


_ORDER = "print(*{'v_proj', 'q_proj'})"


def run(program: str, *arguments: Path, seed: str | None = None) -> str:
    """Run a program of its own, whose sets have the order that this seed gives them."""
    seeded = {"PYTHONHASHSEED": seed} if seed else {}
    argv = [sys.executable, "-c", program, *map(str, arguments)]
    environment = {**os.environ, **seeded}
    ran = subprocess.run(argv, cwd=PROJECT, env=environment, check=True, stdout=subprocess.PIPE)
    return ran.stdout.decode()


def test_order_of_a_set_does_not_reach_the_adapters_configuration(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model", layers=1)
    seeds = map(str, range(100))
    turned = next(seed for seed in seeds if run(_ORDER, seed=seed).split() == ["v_proj", "q_proj"])
    run(_WRITES, model, tmp_path / "adapter", seed=turned)
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_bytes())
    assert written["target_modules"] == ["q_proj", "v_proj"]
