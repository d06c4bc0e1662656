from collections.abc import Callable
from pathlib import Path

from tasks.core.architecture.card import loading_instructions
from tasks.core.recipe import ActivationEdit, Edit, RopeScalingEdit
from tests.models import tiny_llama


def _run(instructions: str) -> None:
    """Run the passage's own Python."""
    code = instructions.split("```python\n")[1].split("```", maxsplit=1)[0]
    exec(code, {})  # noqa: S102 - the card's example is what is under test


def test_instructions_for_an_edited_model_run_as_they_stand(edited: Path) -> None:
    instructions = loading_instructions(edited, name=str(edited))
    assert "trust_remote_code=True" in instructions
    _run(instructions)


def test_instructions_for_a_plain_model_run_as_they_stand(stock: Path) -> None:
    instructions = loading_instructions(stock, name=str(stock))
    assert "trust_remote_code" not in instructions
    _run(instructions)


def test_instructions_say_what_was_edited(tmp_path: Path, edit_into: Callable[..., Path]) -> None:
    edit = Edit(
        activations=(ActivationEdit(layers=(0, 2)), ActivationEdit(layers=(1,), activation="relu")),
        rope_scaling=RopeScalingEdit(rope_type="dynamic", factor=2.0),
    )
    edited = edit_into(tiny_llama(tmp_path / "stock", layers=4), edit)
    instructions = loading_instructions(edited, name="warung/model")
    assert (
        "activation `gelu` instead of `silu` in the MLP of layers 0, 2 (of 0 to 3)" in instructions
    )
    assert "activation `relu` instead of `silu` in the MLP of layer 1 (of 0 to 3)" in instructions
    assert "RoPE scaling `dynamic` by 2.0: a context of 4096 tokens" in instructions
