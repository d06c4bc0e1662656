"""The fuse stage: a whole model that every other tool prompts as it was trained."""

from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from prefect import flow
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks.core.conversation.template.files import TEMPLATE_FILE
from tasks.core.files.digests import digest_of
from tasks.core.model.edit_fingerprint import FINGERPRINT_FILE, read_fingerprint
from tasks.core.model.template_record import record_template, recorded_template
from tasks.core.recipe import Edit
from tasks.core.store.manifest import read_manifest
from tasks.edit import edit
from tasks.fuse import fuse
from tasks.stage_result import StageResult
from tests.models import tiny_llama

pytestmark = pytest.mark.usefixtures("prefect", "home")


@pytest.fixture
def parts(tmp_path: Path) -> tuple[StageResult, StageResult]:
    """A base that no stage has written anything into, and an adapter for it."""
    base = tiny_llama(tmp_path / "base", layers=1)
    model = AutoModelForCausalLM.from_pretrained(base)
    lora = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(model, lora).save_pretrained(tmp_path / "finetune" / "adapter")
    return _stage("download", base), _stage("finetune", tmp_path / "finetune")


@pytest.mark.parametrize("template", ["vicuna_v1.1", None])
def test_the_chat_template_is_that_which_the_adapter_was_trained_with(
    parts: tuple[StageResult, StageResult], template: str | None
) -> None:
    if template is not None:
        record_template(parts[1].path / "adapter", template)

    @flow
    def run() -> StageResult:
        made: StageResult = fuse.submit(*parts).result()
        return made

    made = run().path
    assert (made / TEMPLATE_FILE).exists() == (template is not None)
    assert recorded_template(made) == template
    if template is not None:
        messages = [{"role": "user", "content": "Apa itu NIB?"}]
        text = AutoTokenizer.from_pretrained(made).apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        assert str(text).endswith("USER: Apa itu NIB? ASSISTANT:")


@pytest.mark.slow
def test_each_edited_model_has_the_fingerprint_of_its_own_weights_in_its_manifest(
    parts: tuple[StageResult, StageResult],
) -> None:
    """Fuse carried the edited model's along, which is not true of the fused weights."""

    @flow
    def run() -> tuple[StageResult, StageResult]:
        edited = edit.submit(parts[0], Edit(), "vicuna_v1.1").result()
        return edited, fuse.submit(edited, parts[1]).result()

    edited, fused = (made.path for made in run())
    for model in (edited, fused):
        manifest = read_manifest(model)
        assert manifest is not None
        assert manifest.files[FINGERPRINT_FILE].sha256 == digest_of(model / FINGERPRINT_FILE).sha256
    before, after = read_fingerprint(edited), read_fingerprint(fused)
    assert before is not None
    assert after is not None
    assert after.prompt_ids == before.prompt_ids
    assert after.unedited != before.unedited


def _stage(stage: str, path: Path) -> StageResult:
    return StageResult(
        stage=stage,
        artifact=f"{stage}-1",
        digest=stage.ljust(64, "0"),
        path=path,
        cached=False,
        wall_s=0.0,
        size_bytes=0,
        peak_memory_bytes=0,
    )
