"""The same training writes the same bytes: what comes after it is made once."""

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
from tasks.core.training.trainer import _trained_parameters, _write_adapter
config = LoraConfig(task_type="CAUSAL_LM", target_modules=["v_proj", "q_proj"])
model = get_peft_model(LlamaForCausalLM.from_pretrained(sys.argv[1]), config)
_write_adapter(model, _trained_parameters(model), Path(sys.argv[2]))
"""


def test_order_of_a_set_does_not_reach_the_adapters_configuration(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model", layers=1)
    written = []
    for seed in (0, 3):  # they turn the two names around
        out = tmp_path / str(seed)
        subprocess.run(
            [sys.executable, "-c", _WRITES, str(model), str(out)],
            cwd=PROJECT,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            check=True,
        )
        written.append((out / "adapter_config.json").read_text())
    assert written[0] == written[1]
