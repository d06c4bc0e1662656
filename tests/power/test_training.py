"""What a training leaves, after a power cut: an outcome speaks of an adapter that is there."""

from pathlib import Path

from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from tasks.core.files.digests import digest_of
from tasks.core.files.durable import make_directory, write_atomically
from tasks.core.training.trainer.adapter_writing import write_adapter
from tests.models import tiny_llama
from tests.power.recorder import recorded

_FILES = ("adapter_model.safetensors", "adapter_config.json")


def test_an_outcome_is_written_when_the_adapter_is_on_the_disk(disk, survey, is_needed, tmp_path):
    def look(root: Path, promised: frozenset[str]) -> None:
        if promised or (root / "work" / "outcome.json").exists():
            assert {name: digest_of(root / "out" / "adapter" / name) for name in _FILES} == whole

    model = AutoModelForCausalLM.from_pretrained(tiny_llama(tmp_path / "model", layers=1))
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    make_directory(disk / "work")
    with recorded(disk) as recording:
        write_adapter(adapted, adapted.state_dict(), disk / "out" / "adapter")
        write_atomically(disk / "work" / "outcome.json", "{}")  # what Outcome.write does
        recording.promise("outcome")
    whole = {name: digest_of(disk / "out" / "adapter" / name) for name in _FILES}
    assert survey(recording, look).wrong == ()
    for sync in (".", "out", "out/adapter", *(f"out/adapter/{name}" for name in _FILES)):
        assert is_needed(recording, look, sync), sync
