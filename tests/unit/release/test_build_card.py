"""What the card of a fine-tuned build says of its training: what was, not what was asked for."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.conversation.checking.leaks import Leaks
from tasks.core.evaluation.figures import EvaluationOutcome, Figures, HeldOut
from tasks.core.evaluation.gate import apply_gate
from tasks.core.keys import stage_key
from tasks.core.planning.rungs import rungs_of
from tasks.core.recipe import Base, Finetune, Gate, Publish, Recipe
from tasks.core.release.build_card import BuiltStage, card_of_build
from tasks.core.store import Staging, Store
from tasks.core.training.failures import StopReason
from tasks.core.training.result import TRAINING, StepDown
from tests.models import tiny_llama

ASKED = Finetune(micro_batch_size=2, gradient_accumulation_steps=4)
OUTCOME = EvaluationOutcome(
    figures=(
        Figures(
            role="fine-tuned",
            conversations=1,
            tokens=1,
            utf8_bytes=4,
            nll_nats=3.0,
            dtype="float32",
            tokens_per_s=1.0,
            peak_memory_bytes=1,
        ),
    ),
    comparisons=(),
    answers=(),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("model"), layers=1)


def card(
    tmp_path: Path,
    model: Path,
    settings: Finetune | None,
    *stepped: StepDown,
    outcome: EvaluationOutcome = OUTCOME,
    keys: Path | None = None,
    signed_by: str | None = None,
) -> str:
    """Return the card of a build whose adapter was trained with these settings."""
    store = Store(tmp_path)

    def built(stage: str, write: Callable[[Staging], None]) -> BuiltStage:
        artifact = store.build(stage_key(stage, 1, {}, {}), write, params={}).artifact
        return BuiltStage(stage, artifact.path)

    def whole(staging: Staging) -> None:
        shutil.copytree(model, staging.path, dirs_exist_ok=True)

    def adapter(staging: Staging) -> None:
        assert settings is not None
        rung = next(rung for rung in rungs_of(ASKED) if rung.settings == settings)
        shown = settings.model_dump(mode="json", exclude={"data"})
        (staging.path / TRAINING).write_text(json.dumps({"settings": shown}))
        staging.note(rung=rung.name, steps_down=[step.model_dump(mode="json") for step in stepped])

    target = Publish(target="/published", license="apache-2.0", signed_by=keys)
    base = Base(directory=model, signed_by=keys)
    recipe = Recipe(name="tiny", base=base, finetune=settings and ASKED, publish=target)
    stages = [built("base", whole)]
    if settings is not None:
        stages += [built("finetune", adapter), built("fuse", whole)]
    verdict = apply_gate(outcome, Gate())
    return card_of_build(recipe, target, stages, outcome, verdict, signed_by=signed_by).text


def test_the_settings_are_those_of_the_rung_that_trained(tmp_path: Path, model: Path) -> None:
    ladder = rungs_of(ASKED)
    stepped = [
        StepDown(rung=rung.name, reason=StopReason.DEVICE_OUT_OF_MEMORY, kept_step=None)
        for rung in ladder[:-1]
    ]
    text = card(tmp_path, model, ladder[-1].settings, *stepped)
    assert ladder[-1].settings.quantization == "4bit"
    assert "| quantization | 4bit |" in text
    assert "| micro_batch_size | 1 |" in text
    assert f"| rung | {ladder[-1].name} |" in text
    assert "| stepped over | as asked (the device ran out of memory); micro batch 1" in text


def test_a_training_is_promised_to_the_bit_on_its_rung_and_kind_of_machine_alone(
    tmp_path: Path, model: Path
) -> None:
    text = " ".join(card(tmp_path, model, ASKED).split())
    assert "to the bit, up to the fine-tune" in text
    assert "same rung of the ladder (as asked), on the same kind of machine" in text
    assert "stepped over" not in text


def test_held_out_conversations_that_were_trained_on_stand_among_the_limits(
    tmp_path: Path, model: Path
) -> None:
    held_out = HeldOut(records=30, measured=30, set_aside={}, leaks=Leaks(160, 30, 2, 1))
    leaking = OUTCOME.model_copy(update={"held_out": held_out})
    told = "3 of 30 held-out conversations stand in the training data"
    assert told in card(tmp_path, model, None, outcome=leaking)
    assert told not in card(tmp_path, model, None)


def test_without_a_training_the_files_are_promised_to_the_bit(tmp_path: Path, model: Path) -> None:
    text = card(tmp_path, model, None)
    assert "to the bit." in text
    assert "rung" not in text


def test_a_signed_build_names_its_key_and_has_a_name_of_its_own(
    tmp_path: Path, model: Path
) -> None:
    """A tag never changes: what another key has signed is another build."""
    unsigned, one, two = (card(tmp_path, model, None, signed_by=key) for key in (None, "ab", "cd"))
    assert "SHA-256 `ab`" in one
    assert "Signature" not in unsigned
    builds = {re.search(r"Build `(\w+)`", text)[1] for text in (unsigned, one, two)}  # type: ignore[index]
    assert len(builds) == 3


def test_which_keys_a_recipe_trusts_changes_no_build(tmp_path: Path, model: Path) -> None:
    trusting = card(tmp_path, model, None, keys=Path("/machine/trusted.pub"))
    assert trusting == card(tmp_path, model, None)
