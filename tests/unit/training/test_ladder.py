"""The ladder itself, with an attempt that ends as a test wants; test_ladder_real really trains."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import LlamaConfig

from tasks.core.errors import DeviceBusy, NotAModel
from tasks.core.files.locks import locked
from tasks.core.machine import devices
from tasks.core.machine.gpus import parse_gpus
from tasks.core.machine.hardware import GpuUse
from tasks.core.planning.rungs import rungs_of
from tasks.core.planning.shape import shape_of
from tasks.core.planning.training_memory import training_memory
from tasks.core.process import Cause, ChildResult
from tasks.core.recipe import Finetune
from tasks.core.training import ladder, rung_choice
from tasks.core.training.attempt import TrainedAdapter
from tasks.core.training.checkpoints.directory import DIVISION, mark_whole
from tasks.core.training.failures import StopReason, TrainingStopped
from tasks.core.training.job import division_of
from tasks.core.training.ladder import (
    LadderResult,
    SteppedDown,
    train_down_the_ladder,
    train_on_due_rung,
)
from tasks.core.training.request import TrainingRequest
from tasks.core.units import GIB
from tests.holding import holding

CPU = Finetune(device="cpu", micro_batch_size=4, zero_stage=2, gradient_checkpointing=False)
GPU = Finetune(processes=2, micro_batch_size=1, zero_stage=2)
ENDED = ChildResult(-9, Cause.SIGNAL, tail=(), peak_memory_bytes=0, wall_s=0.0)


class Attempts:
    """Stands in for `run_attempt`: ends for the reasons given, one an attempt, then succeeds."""

    def __init__(self, *reasons: StopReason, kept_step: int | None = None) -> None:
        self.settings: list[Finetune] = []
        self.asked: list[Finetune] = []
        self._reasons = list(reasons)
        self._kept_step = kept_step

    def __call__(self, request: TrainingRequest, settings: Finetune) -> object:
        out = request.out
        self.settings.append(settings)
        self.asked.append(request.settings)
        (out / "work").mkdir(parents=True, exist_ok=True)
        if not self._reasons:
            return TrainedAdapter
        checkpoint = None
        if self._kept_step is not None:
            checkpoint = out / "work" / "checkpoints" / f"checkpoint-{self._kept_step}"
            checkpoint.mkdir(parents=True, exist_ok=True)
            (checkpoint / DIVISION).write_text(division_of(settings))
            mark_whole(checkpoint)
        raise TrainingStopped(self._reasons.pop(0), ENDED, "the last words", checkpoint)


Run = Callable[..., LadderResult]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shape of a 13B model: nothing else of it is looked at."""
    path = tmp_path_factory.mktemp("model")
    LlamaConfig(
        vocab_size=32000,
        hidden_size=5120,
        intermediate_size=13824,
        num_hidden_layers=40,
        num_attention_heads=40,
    ).save_pretrained(path)
    return path


@pytest.fixture
def run(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(
        attempts: Attempts,
        settings: Finetune = CPU,
        *,
        out: str = "out",
        start: Run = train_on_due_rung,
    ) -> LadderResult:
        monkeypatch.setattr(ladder, "run_attempt", attempts)
        request = TrainingRequest(model, settings, data=Path(), template="", out=tmp_path / out)
        return start(request, tmp_path)

    return run


@pytest.mark.parametrize(
    "reason", [StopReason.KILLED, StopReason.NOT_FINITE, StopReason.LOST_PEER, StopReason.ERROR]
)
def test_nothing_but_a_want_of_memory_leads_down(run: Run, reason: StopReason) -> None:
    attempts = Attempts(reason)
    with pytest.raises(TrainingStopped) as caught:
        run(attempts, start=train_down_the_ladder)
    assert not caught.value.retryable
    assert run(Attempts()).number == 1


def test_at_the_bottom_the_failure_itself_is_raised(run: Run) -> None:
    bottom = CPU.model_copy(update={"micro_batch_size": 1, "gradient_checkpointing": True})
    with pytest.raises(TrainingStopped, match="the last words"):
        run(Attempts(StopReason.HOST_OUT_OF_MEMORY), bottom)


def test_a_step_down_says_what_it_changes_saves_and_costs_and_can_be_retried(run: Run) -> None:
    with pytest.raises(SteppedDown) as caught:
        run(Attempts(StopReason.HOST_OUT_OF_MEMORY, kept_step=7))
    said = str(caught.value)
    assert caught.value.retryable
    below = rungs_of(CPU)[1]
    for words in ("rung 2 of 4, micro batch 2", below.saves, below.costs, "resumes from step 7"):
        assert words in said
    assert below.changes[1:] in said


def test_a_step_down_to_states_that_cannot_be_taken_over_says_that_it_starts_anew(
    run: Run,
) -> None:
    without_zero = GPU.model_copy(update={"zero_stage": 0})
    with pytest.raises(SteppedDown, match="starts over: 16 bits without ZeRO"):
        run(Attempts(StopReason.DEVICE_OUT_OF_MEMORY, kept_step=7), without_zero)


def test_conversations_stay_grouped_as_asked_so_that_a_lower_rung_goes_on(run: Run) -> None:
    grouped = CPU.model_copy(update={"batching": "group"})
    attempts = Attempts(StopReason.HOST_OUT_OF_MEMORY, kept_step=7)
    with pytest.raises(SteppedDown, match="resumes from step 7"):
        run(attempts, grouped)
    run(attempts, grouped)
    assert [settings.micro_batch_size for settings in attempts.settings] == [4, 2]
    assert attempts.asked == [grouped, grouped]


def test_the_next_attempt_begins_on_the_rung_below_in_another_process_too(run: Run) -> None:
    attempts = Attempts(StopReason.HOST_OUT_OF_MEMORY, StopReason.HOST_OUT_OF_MEMORY)
    for _ in range(2):
        with pytest.raises(SteppedDown):
            run(attempts)
    made = run(attempts)
    assert [settings.micro_batch_size for settings in attempts.settings] == [4, 2, 1]
    assert [settings.gradient_accumulation_steps for settings in attempts.settings] == [16, 32, 64]
    assert (made.number, made.rung.name) == (3, "micro batch 1")
    assert [step.rung for step in made.steps_down] == ["as asked", "micro batch 2"]


def test_an_attempt_below_the_top_says_what_it_changes(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        with pytest.raises(SteppedDown):
            run(Attempts(StopReason.HOST_OUT_OF_MEMORY, kept_step=7))
        assert "Rung " not in caplog.text
        made = run(Attempts())
    assert f"Rung 2 of 4, micro batch 2: {made.rung.changes}." in caplog.text
    assert [step.kept_step for step in made.steps_down] == [7]


def test_of_a_model_that_cannot_be_planned_the_next_rung_is_tried(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_: Path) -> None:
        raise NotAModel("Nothing is known of it.")

    monkeypatch.setattr(rung_choice, "shape_of", unknown)
    made = run(Attempts(StopReason.HOST_OUT_OF_MEMORY), start=train_down_the_ladder)
    assert made.rung.name == "micro batch 2"


def test_other_settings_begin_at_the_top_again(run: Run) -> None:
    with pytest.raises(SteppedDown):
        run(Attempts(StopReason.HOST_OUT_OF_MEMORY))
    assert run(Attempts(), CPU.model_copy(update={"learning_rate": 1e-3})).number == 1


def test_the_rung_that_worked_is_where_the_next_training_begins(run: Run, tmp_path: Path) -> None:
    run(Attempts(StopReason.HOST_OUT_OF_MEMORY), start=train_down_the_ladder)
    again = Attempts()
    longer = CPU.model_copy(update={"epochs": 9.0})  # needs no more memory: the same record
    assert run(again, longer, out="another").number == 2
    assert again.settings == [
        longer.model_copy(update={"micro_batch_size": 2, "gradient_accumulation_steps": 32})
    ]
    (record,) = (tmp_path / "rungs").iterdir()
    assert json.loads(record.read_text())["rung"] == "micro batch 2"
    rank = CPU.lora.model_copy(update={"r": 64})
    assert run(Attempts(), CPU.model_copy(update={"lora": rank}), out="third").number == 1


def aged(record: Path, days: float) -> None:
    """Make a record as old as that."""
    kept = json.loads(record.read_text())
    kept["above_was_short_at_s"] -= days * 24 * 3600
    record.write_text(json.dumps(kept))


@pytest.fixture
def record(run: Run, tmp_path: Path) -> Path:
    """The record of a training that worked on the lowest but one of its rungs, 3 of 4."""
    reasons = [StopReason.HOST_OUT_OF_MEMORY] * 2
    run(Attempts(*reasons), start=train_down_the_ladder)
    (path,) = (tmp_path / "rungs").iterdir()
    return path


def test_a_rung_is_believed_for_some_days_and_then_the_one_above_is_tried(
    run: Run, record: Path
) -> None:
    aged(record, days=6)
    assert run(Attempts(), out="after six days").number == 3
    aged(record, days=2)
    assert run(Attempts(), out="after eight days").number == 2
    # It worked: nothing speaks for it but habit, so that the next training looks further up.
    assert run(Attempts(), out="another").number == 1
    assert not record.exists()


def test_a_rung_above_that_is_still_too_much_is_believed_anew(run: Run, record: Path) -> None:
    aged(record, days=8)
    tried = Attempts(StopReason.HOST_OUT_OF_MEMORY)
    made = run(tried, out="again", start=train_down_the_ladder)
    assert (made.number, [step.rung for step in made.steps_down]) == (3, ["micro batch 2"])
    assert run(Attempts(), out="another").number == 3


def test_a_rung_above_is_not_tried_while_somebody_else_uses_the_memory(
    run: Run, record: Path
) -> None:
    aged(record, days=8)
    with holding(devices.lock_directory() / "GPU-other.build", "fine-tune of another"):
        assert run(Attempts(), out="beside").number == 3
    assert run(Attempts(), out="alone").number == 2


def test_a_record_of_the_future_is_doubted(run: Run, record: Path) -> None:
    aged(record, days=-1)
    assert run(Attempts(), out="another").number == 2


def test_a_rung_is_not_remembered_when_another_build_used_the_memory(
    run: Run, tmp_path: Path
) -> None:
    with (
        holding(devices.lock_directory() / "GPU-other.build", "fine-tune of another"),
        pytest.raises(SteppedDown, match="Not recorded: fine-tune of another"),
    ):
        run(Attempts(StopReason.HOST_OUT_OF_MEMORY))
    made = run(Attempts())
    assert (made.number, made.steps_down[0].alone) == (2, False)
    assert not (tmp_path / "rungs").exists()
    assert run(Attempts(), out="another").number == 1


def test_a_disk_that_does_not_take_the_record_of_a_rung_loses_no_training(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "rungs").write_text("a file where the directory should be")
    made = run(Attempts(StopReason.HOST_OUT_OF_MEMORY), start=train_down_the_ladder)
    assert made.number == 2


@pytest.mark.parametrize(
    ("free_gib", "pids"), [(79, ()), (79, (4242,)), (40, ())], ids=["alone", "process", "memory"]
)
def test_a_rung_is_remembered_only_when_nobody_else_was_on_the_gpu(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_gib: int, pids: tuple[int, ...]
) -> None:
    alone = free_gib == 79 and not pids
    gpu = GpuUse("GPU-one", "H100", 80 * GIB, free_gib * GIB, pids)
    monkeypatch.setattr(devices, "read_gpu_use", lambda: (gpu,))
    one = GPU.model_copy(update={"processes": 1})
    made = run(Attempts(StopReason.DEVICE_OUT_OF_MEMORY), one, start=train_down_the_ladder)
    assert [step.alone for step in made.steps_down] == [alone]
    assert (tmp_path / "rungs").exists() is alone


def test_a_process_on_a_gpu_that_the_training_leaves_alone_does_not_matter(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = GpuUse("GPU-one", "H100", 80 * GIB, 79 * GIB, ())
    two = GpuUse("GPU-two", "H100", 80 * GIB, 10 * GIB, (4242,))
    monkeypatch.setattr(devices, "read_gpu_use", lambda: (one, two))
    asked = GPU.model_copy(update={"processes": 1})
    made = run(Attempts(StopReason.DEVICE_OUT_OF_MEMORY), asked, start=train_down_the_ladder)
    assert [step.alone for step in made.steps_down] == [True]


def test_a_training_is_refused_beside_a_deployment_that_leaves_it_too_little(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = GpuUse("GPU-one", "H100", 80 * GIB, 10 * GIB, ())
    monkeypatch.setattr(devices, "read_gpu_use", lambda: (gpu,))
    attempts = Attempts()
    with (
        locked(devices.lock_directory() / "GPU-one.serving", "deployment demo", shared=True),
        pytest.raises(DeviceBusy, match=r"10\.7 GB free beside deployment demo") as caught,
    ):
        run(attempts, GPU.model_copy(update={"processes": 1}))
    assert not caught.value.retryable
    assert "GB free" in str(caught.value.expected)
    assert attempts.settings == []


@pytest.mark.parametrize(
    ("gpus", "name"),
    [
        ("1x24GiB", "ZeRO-3 with parameter offload"),  # 26.0 GB of weights into 25.8 GB
        ("2x24GiB", "ZeRO-3"),
        ("1x32GiB", "as asked"),
        (None, "as asked"),  # nothing is known of the GPU
    ],
)
def test_rungs_whose_weights_no_gpu_can_hold_cost_no_attempt(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    gpus: str | None,
    name: str,
) -> None:
    found = parse_gpus(gpus) if gpus else ()
    processes = len(found) or 1
    monkeypatch.setattr(rung_choice, "read_gpus", lambda: (found, None))
    with caplog.at_level("INFO"):
        made = run(Attempts(), GPU.model_copy(update={"processes": processes}))
    assert made.rung.name == name
    assert not made.steps_down
    fewer = name != "as asked"
    assert ("of weights do not fit" in caplog.text) == fewer
    assert ("26.0 GB of weights do not fit into a GPU of 25.8 GB" in caplog.text) == fewer


def test_the_second_rung_may_be_the_first_that_fits(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rung_choice, "read_gpus", lambda: (parse_gpus("1x24GiB"), None))
    asked = GPU.model_copy(update={"processes": 1, "zero_stage": 3, "offload": "optimizer"})
    with caplog.at_level("INFO"):
        made = run(Attempts(), asked)
    assert (made.number, made.rung.name) == (2, "ZeRO-3 with parameter offload")
    assert "Starting on rung 2, ZeRO-3 with parameter offload" in caplog.text


def test_where_no_rung_fits_the_one_that_was_asked_for_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rung_choice, "read_gpus", lambda: (parse_gpus("1x1GiB"), None))
    asked = GPU.model_copy(update={"processes": 1, "quantization": "4bit", "micro_batch_size": 4})
    made = run(Attempts(), asked)
    assert (made.number, made.rung.name) == (1, "as asked")
    assert made.rungs > 1


def test_weights_that_fill_a_gpu_to_the_last_byte_fit(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = GPU.model_copy(update={"processes": 1})
    terms = training_memory(shape_of(model), one).gpu
    weights = sum(term.bytes for term in terms if term.name == "weights")
    (gpu,) = parse_gpus("1x24GiB")
    for spare, name in ((0, "as asked"), (-1, "ZeRO-3 with parameter offload")):
        found = replace(gpu, memory_bytes=weights + spare)
        monkeypatch.setattr(rung_choice, "read_gpus", lambda found=found: ((found,), None))
        assert run(Attempts(), one, out=name).rung.name == name


@pytest.mark.parametrize(
    "asked", [CPU, GPU.model_copy(update={"hostfile": Path("hosts")})], ids=["cpu", "hosts"]
)
def test_the_gpus_of_this_machine_tell_nothing_of_the_cpu_or_of_other_machines(
    run: Run, monkeypatch: pytest.MonkeyPatch, asked: Finetune
) -> None:
    monkeypatch.setattr(rung_choice, "read_gpus", lambda: pytest.fail("it was asked for the GPUs"))
    assert run(Attempts(), asked).rung.name == "as asked"


def test_a_broken_record_is_no_record(run: Run, tmp_path: Path) -> None:
    run(Attempts(StopReason.HOST_OUT_OF_MEMORY), start=train_down_the_ladder)
    (record,) = (tmp_path / "rungs").iterdir()
    record.write_text("{")
    assert run(Attempts(), out="another").number == 1


@pytest.mark.parametrize(
    ("reason", "settings", "names"),
    [
        # What is short decides: a rung that needs more of it is passed over.
        (StopReason.HOST_OUT_OF_MEMORY, GPU, []),  # its weights never were on the host
        (
            StopReason.DEVICE_OUT_OF_MEMORY,
            GPU,
            ["optimizer offload", "ZeRO-3", "ZeRO-3 with parameter offload"],
        ),
        (
            StopReason.HOST_OUT_OF_MEMORY,
            GPU.model_copy(update={"zero_stage": 3, "offload": "all"}),
            ["pageable offload", "4-bit"],
        ),
    ],
)
def test_a_rung_that_would_not_help_is_passed_over(
    run: Run, reason: StopReason, settings: Finetune, names: list[str]
) -> None:
    attempts = Attempts(*[reason] * 9)
    with pytest.raises(TrainingStopped):
        run(attempts, settings, start=train_down_the_ladder)
    by_settings = {rung.settings.model_dump_json(): rung.name for rung in rungs_of(settings)}
    tried = [by_settings[each.model_dump_json()] for each in attempts.settings]
    assert tried == ["as asked", *names]
