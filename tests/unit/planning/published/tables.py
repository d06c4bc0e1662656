"""The tables of figures.yaml, each figure beside what the planner computes for its settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tasks.core.machine.gpus import GpuSpeed, parse_gpus
from tasks.core.planning.activations import (
    layer_backward_bytes,
    loss_bytes,
    working_bytes,
)
from tasks.core.planning.serving import kv_cache_bytes
from tasks.core.planning.shape import ModelShape
from tasks.core.planning.times import Rates, training_seconds_on_gpus
from tasks.core.planning.training_memory import TrainingMemory, training_memory
from tasks.core.recipe import Finetune, Lora

FIGURES = Path(__file__).with_name("figures.yaml")
GB = 1e9
_NOT_ALLOCATED = {"CUDA", "fragmentation"}
"""What a GPU needs beyond the tensors that torch counts."""


@dataclass(frozen=True)
class Row:
    """One figure of the table: what it is called there, what others say, what is computed."""

    name: str
    published: float
    computed: float

    @property
    def deviation(self) -> float:
        return self.computed / self.published - 1


@dataclass(frozen=True)
class Table:
    """Figures of one source. fitted: what was made to agree with them; within: least, most."""

    name: str
    rows: tuple[Row, ...]
    within: tuple[float, float]
    fitted: str = ""


def written_tables() -> list[Table]:
    """Return the tables of figures.yaml, computed now."""
    content = yaml.safe_load(FIGURES.read_text(encoding="utf-8"))
    shapes = {name: ModelShape(**numbers) for name, numbers in content["shapes"].items()}
    return [_table(name, table, shapes) for name, table in content["tables"].items()]


def speed_of(card: str) -> GpuSpeed:
    """Return the speed that the planner's own table holds for a card."""
    (gpu,) = parse_gpus(card)
    assert gpu.speed is not None
    return gpu.speed


def seconds_for(
    shape: ModelShape, asked: Finetune, card: str, tokens: int, rates: Rates | None = None
) -> float:
    """Return the planned time for this many tokens, all processes together, once."""
    once = asked.model_copy(update={"epochs": 1})
    speed = speed_of(card)
    seconds = training_seconds_on_gpus(
        shape, once, speed=speed, training_tokens=tokens, rates=rates
    )
    assert seconds is not None
    return seconds


def _table(name: str, table: dict[str, Any], shapes: dict[str, ModelShape]) -> Table:
    rows = []
    for row_name, row in table["rows"].items():
        settings = {**table["settings"], **row}
        published, shape = settings.pop("published"), shapes[settings.pop("shape")]
        computed = _MEASURES[table["measures"]](shape, settings)
        rows.append(Row(row_name, published, computed))
    least, most = table["within"]
    return Table(name, tuple(rows), (least, most), table.get("fitted", ""))


def _asked(settings: dict[str, Any]) -> Finetune:
    """Return the fine-tune: one GPU and conversation, all linear layers, unless said otherwise."""
    mine = {key: value for key, value in settings.items() if key in Finetune.model_fields}
    lora = {key: settings[key] for key in ("r", "dropout") if key in settings}
    lora["target_modules"] = settings.get("targets", "all-linear")
    known = {*mine, "r", "dropout", "targets", "card"}
    assert set(settings) <= known, f"no setting of a fine-tune: {set(settings) - known}"
    return Finetune(**{"micro_batch_size": 1, "zero_stage": 0, "lora": Lora(**lora), **mine})


def _memory(shape: ModelShape, settings: dict[str, Any]) -> TrainingMemory:
    return training_memory(shape, _asked(settings))


def _gpu(shape: ModelShape, settings: dict[str, Any]) -> float:
    return _memory(shape, settings).gpu_bytes / GB


def _gpu_with_a_narrow_loss(shape: ModelShape, settings: dict[str, Any]) -> float:
    """Without autocast the loss of Qwen's own code is computed in 16 bits, not in fp32."""
    asked = _asked(settings)
    narrow = max(loss_bytes(shape, asked) // 2, layer_backward_bytes(shape, asked))
    less = working_bytes(shape, asked) - narrow
    return (training_memory(shape, asked).gpu_bytes - less * 1.05) / GB  # 5% of it fragmentation


def _allocated(shape: ModelShape, settings: dict[str, Any]) -> float:
    terms = _memory(shape, settings).gpu
    return sum(term.bytes for term in terms if term.name not in _NOT_ALLOCATED) / GB


def _host(shape: ModelShape, settings: dict[str, Any]) -> float:
    return _memory(shape, settings).host_bytes / GB


def _served(shape: ModelShape, settings: dict[str, Any]) -> float:
    cache = kv_cache_bytes(shape, settings["max_length_tokens"])
    return (shape.weight_bytes("bfloat16") + cache) / GB


def _step_of_eight(shape: ModelShape, settings: dict[str, Any]) -> float:
    asked = _asked(settings)
    tokens = 8 * asked.max_length_tokens * asked.processes
    return seconds_for(shape, asked, settings["card"], tokens)


def _tokens_per_s(shape: ModelShape, settings: dict[str, Any]) -> float:
    tokens = 10**6
    return tokens / seconds_for(shape, _asked(settings), settings["card"], tokens)


_MEASURES = {
    "gpu": _gpu,
    "gpu, loss in the training type": _gpu_with_a_narrow_loss,
    "allocated": _allocated,
    "host": _host,
    "weights and cache": _served,
    "seconds of 8 conversations": _step_of_eight,
    "tokens/s": _tokens_per_s,
}
