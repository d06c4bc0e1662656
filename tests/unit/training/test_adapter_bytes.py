"""The same training writes the same bytes: what comes after it is made once."""

import json
from itertools import count
from pathlib import Path

from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

from tasks.core.training.trainer.adapter_writing import trained_parameters, write_adapter
from tests.models import tiny_llama


def is_turned_round(one: str, other: str) -> bool:
    """Say whether a set of both has the other one first, whichever was added first."""
    return list({one, other}) == list({other, one}) == [other, one]


def test_order_of_a_set_does_not_reach_the_adapters_configuration(tmp_path: Path) -> None:
    # The order of a set differs between processes: two names that this one turns round.
    others = (f"no_proj_{number}" for number in count())
    names = next([other, "q_proj"] for other in others if is_turned_round(other, "q_proj"))
    model = LlamaForCausalLM.from_pretrained(tiny_llama(tmp_path / "model", layers=1))
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=names)
    trained = get_peft_model(model, config)
    assert list(trained.peft_config["default"].target_modules) != names
    write_adapter(trained, trained_parameters(trained), tmp_path / "adapter")
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_bytes())
    assert written["target_modules"] == names
