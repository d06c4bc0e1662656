"""The fine-tune: data, adapter, optimizer, and how the work is divided."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from tasks.core.recipe.data import DataSource, listed
from tasks.core.recipe.part import Part
from tasks.core.recipe.source import Dtype

Offload = Literal["none", "optimizer", "all"]
Tracker = Literal["tensorboard", "wandb", "mlflow", "comet_ml", "trackio"]


class Lora(Part):
    """The low-rank adapter (arXiv:2106.09685) that is trained in place of the weights."""

    r: int = Field(8, ge=1, title="Rank", description="The rank of the update.")
    alpha: int = Field(16, ge=1, title="Alpha", description="The update is scaled by alpha / r.")
    dropout: float = Field(0.05, ge=0, lt=1, title="Dropout", description="On the adapter's input.")
    target_modules: tuple[str, ...] | Literal["all-linear"] = Field(
        ("q_proj", "v_proj"),
        title="Target modules",
        description='Names of the layers that get an adapter, or "all-linear".',
    )
    rslora: bool = Field(
        False,
        title="Rank-stabilized",
        description="Scale by alpha / sqrt(r) instead (arXiv:2312.03732), for high ranks.",
    )


class Finetune(Part):
    """LoRA with DeepSpeed. The defaults are those of the original command."""

    data: tuple[DataSource, ...] = Field(
        (DataSource(file=Path("data/conversation.json")),),
        title="Conversations",
        description="The sources to learn from, in order; of records that say the same, the first "
        "stays. A path alone is one file. By default it is `data/conversation.json`.",
    )
    method: Literal["sft", "dpo"] = Field(
        "sft",
        title="Method",
        description="`sft` learns the answers of conversations; `dpo` learns from pairs of a "
        "chosen and a rejected answer which of two is preferred.",
    )
    beta: float = Field(
        0.1,
        gt=0,
        title="Beta",
        description="Of `dpo`: the larger, the closer the model stays to what it was.",
    )
    language: str | None = Field(
        "id",
        title="Language",
        description="ISO 639-1 code; conversations in another one are dropped. Leave empty to "
        "accept every language.",
    )
    same_speaker: Literal["refuse", "merge"] = Field(
        "refuse",
        title="Same speaker twice",
        description="`merge` makes one turn of neighbouring turns of one speaker; else such a "
        "conversation is dropped.",
    )
    max_dropped_share: float = Field(
        0.02,
        ge=0,
        lt=1,
        title="Most that may be dropped",
        description="Share of the records that cannot be used, above which the file is refused.",
    )
    batching: Literal["pad", "group", "pack"] = Field(
        "pad",
        title="Batches",
        description="`pad` to the longest of a micro batch; `group` conversations of like length, "
        "too; `pack` several into one row, without attention between them.",
    )
    lora: Lora = Field(default_factory=Lora, title="LoRA", description="The adapter's shape.")
    epochs: float = Field(3, gt=0, title="Epochs", description="Passes over the data.")
    max_steps: int | None = Field(
        None, ge=1, title="Steps", description="Ends earlier than the epochs would, if given."
    )
    micro_batch_size: int = Field(
        2, ge=1, title="Micro batch", description="Conversations, or pairs, a device at once."
    )
    gradient_accumulation_steps: int = Field(
        16, ge=1, title="Accumulation", description="Micro batches a step."
    )
    learning_rate: float = Field(2e-5, gt=0, title="Learning rate", description="At its peak.")
    lr_scheduler: Literal["cosine", "linear", "constant"] = Field(
        "cosine", title="Schedule", description="How the learning rate falls."
    )
    warmup_ratio: float = Field(
        0.03, ge=0, lt=1, title="Warm-up", description="Share of the steps with a rising rate."
    )
    weight_decay: float = Field(0.0, ge=0, title="Weight decay", description="AdamW's.")
    max_grad_norm: float = Field(
        1.0,
        ge=0,
        title="Gradient clipping",
        description="Highest norm of the gradients; 0 is none.",
    )
    precision: Dtype = Field(
        "bfloat16", title="Precision", description="The type of weights and arithmetic."
    )
    max_length_tokens: int = Field(
        2048, ge=16, title="Length", description="Tokens a conversation; longer ones are cut."
    )
    gradient_checkpointing: bool = Field(
        True, title="Gradient checkpointing", description="Less memory for about a third more time."
    )
    zero_stage: Literal[0, 2, 3] = Field(
        3, title="ZeRO stage", description="What DeepSpeed divides between the devices."
    )
    offload: Offload = Field(
        "none", title="Offload", description="What DeepSpeed keeps in the host's memory."
    )
    offload_directory: Path | None = Field(
        None,
        title="NVMe",
        description="A directory on a fast disk of the machine that trains, which takes what is "
        "offloaded instead of the host's memory. Needs ZeRO-3 and libaio.",
    )
    pin_memory: bool = Field(
        True,
        title="Pinned memory",
        description="Faster copies of what is offloaded, for up to twice the host's memory.",
    )
    quantization: Literal["none", "4bit"] = Field(
        "none",
        title="Quantization",
        description="`4bit` keeps the frozen weights in NF4 (QLoRA); needs a GPU.",
    )
    device: Literal["cuda", "cpu"] = Field(
        "cuda", title="Device", description="What training computes on."
    )
    processes: int = Field(
        1, ge=1, title="Processes", description="Total processes: one per GPU, across all machines."
    )
    hostfile: Path | None = Field(
        None,
        title="Machines",
        description="DeepSpeed's hostfile (a line `name slots=GPUs` each) on the machine that "
        "runs the stage, for several machines that share this directory tree.",
    )
    save_steps: int = Field(
        1200, ge=1, title="Checkpoint every", description="Steps between two checkpoints."
    )
    save_interval_s: int = Field(
        600,
        ge=1,
        title="Checkpoint at the latest after",
        description="Seconds from one checkpoint to the end of the step after which the next is "
        "written, however few steps that were.",
    )
    save_total_limit: int = Field(
        10, ge=1, title="Checkpoints kept", description="Older ones are removed."
    )
    logging_steps: int = Field(
        1, ge=1, title="Log every", description="Steps between two values of the loss."
    )
    report_to: tuple[Tracker, ...] = Field(
        (), title="Tracking", description="Services or files that get the figures too; none."
    )
    validation_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        title="Validation",
        description="Share of the conversations that is not learned; its loss is measured during "
        "the training and after it.",
    )
    seed: int = Field(42, ge=0, lt=2**32, title="Seed", description="Of the order and the adapter.")

    @field_validator("data", mode="before")
    @classmethod
    def _one_source_is_a_list_too(cls, value: Any) -> Any:
        return listed(value)

    @field_validator("data")
    @classmethod
    def _each_source_once(cls, value: tuple[DataSource, ...]) -> tuple[DataSource, ...]:
        if not value:
            raise ValueError("name at least one source of conversations")
        names = [each.place for each in value]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"named twice: {', '.join(repeated)}; give it a weight instead")
        return value

    @model_validator(mode="after")
    def _a_method_with_what_it_knows(self) -> Self:
        if self.method == "dpo" and self.batching == "pack":
            raise ValueError("batching: pack joins conversations, not pairs; for dpo, take group")
        if self.method == "sft" and self.beta != Finetune.model_fields["beta"].default:
            raise ValueError("beta is dpo's; name method: dpo, or leave beta out")
        return self

    @model_serializer(mode="wrap")
    def _without_what_sft_does_not_have(
        self, handler: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        """Leave dpo's fields out of what is not trained so: keys of before they were stay valid."""
        plain: dict[str, Any] = handler(self)
        if self.method == "sft":
            plain.pop("method", None)
            plain.pop("beta", None)
        return plain
