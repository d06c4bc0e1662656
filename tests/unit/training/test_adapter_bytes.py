"""The same training writes the same bytes: what comes after it is made once."""

import json
from pathlib import Path

from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

from tasks.core.training.trainer.adapter_writing import trained_parameters, write_adapter
from tests.models import tiny_llama


def set_out_of_order(name: str) -> list[str]:
    """Return, sorted, the name and one that a set of both has the other way round.

    The order of a set differs between processes. Where it also depends on what was added first, it
    does not count.
    """
    for number in range(100):
        for other in (f"a_{number}", f"z_{number}"):
            one, two = pair = sorted([name, other])
            if list({one, two}) == list({two, one}) != pair:
                return pair
    raise AssertionError("No name has such a set.")


def test_order_of_a_set_does_not_reach_the_adapters_configuration(tmp_path: Path) -> None:
    names = set_out_of_order("q_proj")
    model = LlamaForCausalLM.from_pretrained(tiny_llama(tmp_path / "model", layers=1))
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=names)
    trained = get_peft_model(model, config)
    assert list(trained.peft_config["default"].target_modules) != names
    write_adapter(trained, trained_parameters(trained), tmp_path / "adapter")
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_bytes())
    assert written["target_modules"] == names
