"""Real trainings of a tiny model on the CPU."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, set_seed

from tasks.core.architecture.edit import edit_model
from tasks.core.conversation.examples.labels import Encoder
from tasks.core.conversation.tokenizer.load import load_tokenizer
from tasks.core.errors import DataError, LockBusy, MissingTool, NotAModel, RecipeError
from tasks.core.model.template_record import TEMPLATE_RECORD, record_template, recorded_template
from tasks.core.process import run_child
from tasks.core.recipe import ActivationEdit, Edit, Finetune, Lora
from tasks.core.training.attempt import TrainedAdapter, run_attempt
from tasks.core.training.failures import StopReason, TrainingStopped
from tasks.core.training.launch.start import OWNER
from tasks.core.training.request import TrainingRequest
from tests.conversations import load_conversations
from tests.models import WORDS, tiny_llama, tiny_tokenizer

TEMPLATE = "vicuna_v1.1"
SETTINGS = Finetune(
    lora=Lora(dropout=0.1),
    epochs=2,
    micro_batch_size=1,
    gradient_accumulation_steps=2,
    learning_rate=1e-2,
    warmup_ratio=0.0,
    precision="float32",
    max_length_tokens=512,
    zero_stage=2,
    device="cpu",
    save_steps=2,
    save_total_limit=2,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("model"), layers=2)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight conversations of different lengths."""
    records = [
        {
            "id": str(i),
            "conversations": [
                {"from": "human", "value": " ".join(WORDS[i : i + 3])},
                {"from": "gpt", "value": " ".join(WORDS[: i + 1])},
            ],
        }
        for i in range(8)
    ]
    path = tmp_path / "conversation.json"
    path.write_text(json.dumps(records))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


def train(
    model: Path, data: Path, out: Path, settings: Finetune = SETTINGS, **options: Any
) -> TrainedAdapter:
    out.mkdir(exist_ok=True)
    return run_attempt(TrainingRequest(model, settings, data, TEMPLATE, out, **options))


def changed(**fields: object) -> Finetune:
    return Finetune.model_validate(SETTINGS.model_dump() | fields)


def adapter_of(result: TrainedAdapter) -> dict[str, torch.Tensor]:
    return load_file(result.adapter / "adapter_model.safetensors")


def same(one: TrainedAdapter, other: TrainedAdapter) -> bool:
    a, b = adapter_of(one), adapter_of(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def killing_trainers_at(step: int, out: Path) -> Callable[[str], None]:
    """Return a listener that kills the training processes, not the launcher, at a step."""
    job = str(out.resolve() / "work" / "job.json")

    def on_line(line: str) -> None:
        if not line.startswith(f"step {step}/"):
            return
        for process in psutil.process_iter():
            try:
                environment = process.environ()
            except psutil.Error:
                continue
            if environment.get(OWNER) == job and "RANK" in environment:
                process.send_signal(signal.SIGKILL)

    return on_line


# --- before anything is started --------------------------------------------------------------


def test_bad_data_is_named_before_anything_is_started(model: Path, data: Path, out: Path) -> None:
    data.write_text(json.dumps([*json.loads(data.read_text()), {"id": "kosong"}]))
    with pytest.raises(DataError, match=r"1 of 9 records[\s\S]*record 9 \(kosong\)"):
        train(model, data, out)


def test_too_short_a_length_leaves_nothing_to_learn(model: Path, data: Path, out: Path) -> None:
    with pytest.raises(DataError, match="Nothing is left to learn"):
        train(model, data, out, changed(max_length_tokens=32))


def test_a_missing_compiler_is_named_before_anything_is_started(
    model: Path, data: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(MissingTool, match="no-such-compiler"):
        train(model, data, out, changed(device="cuda", offload="optimizer"))


def test_a_layer_that_the_model_does_not_have_is_refused(
    model: Path, data: Path, out: Path
) -> None:
    with pytest.raises(RecipeError, match="c_attn"):
        train(model, data, out, changed(lora=Lora(target_modules=("c_attn",))))


@pytest.mark.usefixtures("preforked_training")
@pytest.mark.parametrize("schedule", ["cosine", pytest.param("linear", marks=pytest.mark.slow)])
def test_the_first_step_of_a_warm_up_learns(
    model: Path, data: Path, out: Path, schedule: str
) -> None:
    """It holds the longest conversation."""
    settings = changed(max_steps=1, warmup_ratio=0.03, lr_scheduler=schedule)
    result = train(model, data, out, settings)
    assert [step.learning_rate for step in result.steps] == [5e-3]
    learned = {name for name, each in adapter_of(result).items() if "lora_B" in name and each.any()}
    assert len(learned) == 4


@pytest.mark.parametrize("validation_share", [0.0, 0.5])
def test_a_text_with_a_token_beyond_the_embedding_is_refused(
    tmp_path: Path, data: Path, out: Path, validation_share: float
) -> None:
    small = tiny_llama(tmp_path / "small", layers=1, vocab=259)
    tokenizer = load_tokenizer(small)
    tokenizer.add_tokens(["warung"])
    tokenizer.save_pretrained(small)
    with pytest.raises(DataError, match="the id 259"):
        train(small, data, out, changed(validation_share=validation_share))


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path, data: Path, out: Path) -> None:
    bare = tiny_llama(tmp_path / "bare", layers=1)
    for file in bare.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(NotAModel, match="tokenizer"):
        train(bare, data, out)


def test_an_orphan_in_the_same_directory_is_waited_for(model: Path, data: Path, out: Path) -> None:
    refused: list[LockBusy] = []
    done = out / "refused"

    def try_beside(_: str) -> None:
        with pytest.raises(LockBusy) as caught:
            train(model, data, out)
        refused.append(caught.value)
        done.touch()

    orphan = {**os.environ, OWNER: str(out.resolve() / "work" / "job.json")}
    waits = 'echo up; while [ ! -e "$0" ]; do sleep 0.1; done'
    run_child(["sh", "-c", waits, str(done)], env=orphan, on_line=try_beside)
    assert refused[0].retryable


# --- what is trained -------------------------------------------------------------------------


def reference(
    model: Path, data: Path, settings: Finetune, steps: int
) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Train the same adapter with plain torch, one conversation at a time, without padding."""
    encoder = Encoder(tiny_tokenizer(), TEMPLATE, settings.max_length_tokens)
    examples = [encoder.encode(conversation) for conversation in load_conversations(data)]
    learned = sum(example.learned_tokens for example in examples)
    set_seed(settings.seed)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    config = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["q_proj", "v_proj"])
    peft = get_peft_model(base, config).train()
    trained = {name: p for name, p in peft.named_parameters() if p.requires_grad}
    adam = torch.optim.AdamW(trained.values(), lr=settings.learning_rate, weight_decay=0.0)
    losses = []
    for _ in range(steps):
        adam.zero_grad()
        loss = torch.tensor(0.0)
        for example in examples:
            logits = peft(torch.tensor([example.input_ids])).logits[0, :-1]
            loss += cross_entropy(logits, torch.tensor(example.labels[1:]), reduction="sum")
        (loss / learned).backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        adam.step()
        losses.append(loss.item() / learned)
    return {name.replace(".default", ""): p.detach() for name, p in trained.items()}, losses


@pytest.mark.usefixtures("preforked_training")
def test_the_adapter_is_what_plain_torch_trains(model: Path, data: Path, out: Path) -> None:
    settings = changed(
        precision="float32",
        lora=Lora(dropout=0.0),
        micro_batch_size=2,
        gradient_accumulation_steps=4,
        max_steps=2,
        lr_scheduler="constant",
    )
    seen: list[tuple[int, int]] = []
    result = train(model, data, out, settings, on_progress=lambda *at: seen.append(at))
    expected, losses = reference(model, data, settings, steps=2)
    # Sums in another order: a few units of the last place of fp32, made larger by Adam's division.
    assert [step.loss for step in result.steps] == pytest.approx(losses, rel=1e-5)
    for name, tensor in adapter_of(result).items():
        torch.testing.assert_close(tensor, expected[name], rtol=0.0, atol=1e-4)

    # A step that takes long is reported more than once, by its micro batches.
    assert [at for at in dict.fromkeys(seen) if at[0]] == [(1, 2), (2, 2)]
    assert [step.learning_rate for step in result.steps] == [1e-2, 1e-2]
    assert result.trained_tokens == 2 * result.counts.tokens
    assert result.facts.tensors == len(expected) == 8
    assert sorted(path.name for path in out.iterdir()) == ["adapter", "loss.png", "training.json"]
    assert sorted(path.name for path in result.adapter.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        TEMPLATE_RECORD,
    ]
    assert recorded_template(result.adapter) == TEMPLATE
    written = json.loads((out / "training.json").read_text())
    assert written["steps"] == [step.model_dump() for step in result.steps]


@pytest.mark.usefixtures("preforked_training")
def test_a_training_shows_its_last_step_and_validations_however_seldom_it_logs(
    model: Path, data: Path, out: Path
) -> None:
    said: list[str] = []
    settings = changed(logging_steps=50, validation_share=0.4, epochs=3, max_steps=3)
    result = train(model, data, out, settings, on_line=said.append)
    assert [step.step for step in result.steps] == [3]
    assert [each.step for each in result.validation] == [3]  # more would take over a tenth
    assert result.losses == (
        f"loss {result.steps[0].loss:.4f}, validation loss {result.validation_loss:.4f}"
    )
    assert any(f"validation loss {result.validation_loss:.4f} after step 3/3" in x for x in said)
    written = json.loads((out / "training.json").read_text())
    assert written["validation"] == [
        each.model_dump(exclude_defaults=True) for each in result.validation
    ]
    assert written["validation_tokens"] > 0


@pytest.mark.slow
def test_the_validation_is_the_same_for_each_micro_batch_and_for_two_processes(
    model: Path, data: Path, tmp_path: Path
) -> None:
    common = {"lora": Lora(dropout=0.0), "epochs": 20, "validation_share": 0.3}
    divided = [
        {"micro_batch_size": 1, "gradient_accumulation_steps": 4},
        {"micro_batch_size": 4, "gradient_accumulation_steps": 1},
        {"processes": 2, "zero_stage": 3},
    ]
    curves = []
    for number, division in enumerate(divided):
        made = train(model, data, tmp_path / str(number), changed(**common, **division))
        curves.append([(each.step, each.loss) for each in made.validation])
    first = curves[0]
    assert len(first) > 2
    assert first[-1][1] is not None
    for other in curves[1:]:
        assert [step for step, _ in other] == [step for step, _ in first]
        assert [loss for _, loss in other] == pytest.approx([loss for _, loss in first], rel=1e-3)


@pytest.mark.slow
def test_the_adapter_records_its_template_and_the_model_that_had_another_is_told(
    model: Path, data: Path, out: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(model, tmp_path / "other")
    record_template(other, "koala_v1")
    said: list[str] = []
    result = train(other, data, out, changed(max_steps=1), on_line=said.append)
    assert recorded_template(result.adapter) == TEMPLATE
    assert f"The model was trained with the template koala_v1; from here on it is {TEMPLATE}." in (
        said
    )


@pytest.mark.slow
def test_two_processes_under_zero_3_train_the_same(model: Path, data: Path, tmp_path: Path) -> None:
    fp32 = {"precision": "float32", "lora": Lora(dropout=0.0), "epochs": 1}
    one = changed(**fp32, gradient_accumulation_steps=4)
    two = changed(**fp32, processes=2, zero_stage=3)
    single = train(model, data, tmp_path / "one", one)
    double = train(model, data, tmp_path / "two", two)
    assert [step.loss for step in double.steps] == pytest.approx(
        [step.loss for step in single.steps], rel=1e-4
    )
    theirs = adapter_of(single)
    for name, tensor in adapter_of(double).items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0.0, atol=1e-3)


@pytest.mark.slow
def test_an_edited_model_trains_with_its_edit(
    model: Path, data: Path, tmp_path: Path, out: Path
) -> None:
    edited = tmp_path / "edited"
    edited.mkdir()
    edit_model(
        model, Edit(activations=(ActivationEdit(layers=("all",), activation="relu"),)), edited
    )
    settings = changed(precision="float32", lora=Lora(dropout=0.0), epochs=1, validation_share=0.4)
    plain = train(model, data, tmp_path / "plain", settings)
    result = train(edited, data, out, settings)
    assert result.steps[0].loss != plain.steps[0].loss
    assert result.validation_loss is not None
    assert result.counts.conversations < 8


# --- what it survives ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode",
    [
        {},
        {"zero_stage": 3, "processes": 2},
        {"zero_stage": 3, "processes": 2, "offload": "all"},
        {"zero_stage": 3, "processes": 2, "batching": "group"},
    ],
)
def test_a_killed_training_resumes_to_the_same_bits(
    model: Path, data: Path, out: Path, tmp_path: Path, mode: dict[str, object]
) -> None:
    settings = changed(epochs=4 if mode else 2, **mode)  # eight steps
    undisturbed = train(model, data, tmp_path / "undisturbed", settings)
    with pytest.raises(TrainingStopped) as caught:
        train(model, data, out, settings, on_line=killing_trainers_at(5, out))
    assert caught.value.reason is StopReason.KILLED
    assert "step 4" in str(caught.value)
    assert not (out / "adapter").exists()
    # A checkpoint that was being written when the process died:
    (out / "work" / "checkpoints" / "checkpoint-6").mkdir(exist_ok=True)

    resumed = train(model, data, out, settings)
    assert (resumed.resumed_from_step, resumed.restarted_for) == (4, ())
    assert same(resumed, undisturbed)
    assert resumed.steps == undisturbed.steps
    assert (out / "training.json").read_bytes() == (
        tmp_path / "undisturbed" / "training.json"
    ).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "before", "after"),
    [
        ("float32", {"zero_stage": 0}, {"zero_stage": 2, "offload": "optimizer"}),
        ("float32", {"zero_stage": 2, "offload": "optimizer"}, {"zero_stage": 3}),
        ("bfloat16", {"zero_stage": 3}, {"zero_stage": 3, "offload": "all"}),
        ("float32", {"zero_stage": 3, "offload": "all"}, {"zero_stage": 0}),
    ],
)
def test_a_training_goes_on_when_its_states_are_divided_otherwise(  # noqa: PLR0917
    model: Path,
    data: Path,
    out: Path,
    tmp_path: Path,
    before: dict[str, object],
    after: dict[str, object],
    precision: str,
) -> None:
    common = {"precision": precision, "processes": 2, "gradient_accumulation_steps": 1}
    undisturbed = train(model, data, tmp_path / "undisturbed", changed(**common, **after))
    with pytest.raises(TrainingStopped):
        train(
            *(model, data, out, changed(**common, **before)),
            on_line=killing_trainers_at(5, out),
        )
    resumed = train(model, data, out, changed(**common, **after))
    assert (resumed.resumed_from_step, resumed.restarted_for) == (4, ())
    assert [step.learning_rate for step in resumed.steps] == [
        step.learning_rate for step in undisturbed.steps
    ]
    # Sums in another order, on the way to step 4 too: the same training, not the same bits.
    near = 1e-3 if precision == "float32" else 2e-2
    assert [step.loss for step in resumed.steps] == pytest.approx(
        [step.loss for step in undisturbed.steps], rel=near
    )
    expected = adapter_of(undisturbed)
    for name, tensor in adapter_of(resumed).items():
        torch.testing.assert_close(tensor, expected[name], rtol=0.0, atol=near)


@pytest.mark.slow
def test_a_smaller_micro_batch_goes_on_and_another_rate_starts_anew(
    model: Path, data: Path, out: Path
) -> None:
    wide = changed(micro_batch_size=2, gradient_accumulation_steps=1)
    with pytest.raises(TrainingStopped):
        train(model, data, out, wide, on_line=killing_trainers_at(3, out))
    narrow = changed(
        micro_batch_size=1, gradient_accumulation_steps=2, gradient_checkpointing=False
    )
    with pytest.raises(TrainingStopped) as caught:
        train(model, data, out, narrow, on_line=killing_trainers_at(5, out))
    assert "step 4" in str(caught.value)  # two of the first attempt, two of this one

    said: list[str] = []
    result = train(model, data, out, changed(learning_rate=2e-2), on_line=said.append)
    assert "Training starts over: learning_rate changed since the last attempt." in said
    assert result.resumed_from_step is None
    assert result.restarted_for == ("learning_rate",)
    assert [step.step for step in result.steps] == list(range(1, 9))


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_training(
    tmp_path: Path, data: Path, out: Path
) -> None:
    model = tiny_llama(tmp_path / "overflowing", layers=1, dtype="float32")
    tensors = load_file(model / "model.safetensors")
    tensors["lm_head.weight"] *= 1e38
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingStopped) as caught:
        train(model, data, out, changed(precision="float32"))
    assert caught.value.reason is StopReason.NOT_FINITE
    assert "step 1: the loss is" in str(caught.value)
    assert "learning_rate" in str(caught.value)
