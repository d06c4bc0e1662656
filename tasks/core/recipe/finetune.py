"""The fine-tune: data, adapter, optimizer, and the distribution over devices."""

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
from tasks.core.recipe.part import RecipePart
from tasks.core.recipe.source import Dtype

Offload = Literal["none", "optimizer", "all"]
Tracker = Literal["tensorboard", "wandb", "mlflow", "comet_ml", "trackio"]


class Lora(RecipePart):
    """The low-rank adapter (arXiv:2106.09685) that is trained instead of the weights."""

    r: int = Field(8, ge=1, title="Rank", description="Rank of the weight update.")
    alpha: int = Field(16, ge=1, title="Alpha", description="The update is scaled by alpha / r.")
    dropout: float = Field(
        0.05,
        ge=0,
        lt=1,
        title="Dropout",
        description="Dropout probability on the adapter's input.",
    )
    target_modules: tuple[str, ...] | Literal["all-linear"] = Field(
        ("q_proj", "v_proj"),
        title="Target modules",
        description='Names of the linear layers that get an adapter, or "all-linear".',
    )
    rslora: bool = Field(
        False,
        title="Rank-stabilized LoRA",
        description="Scale the update by alpha / sqrt(r) instead (arXiv:2312.03732), for high "
        "ranks.",
    )


class Finetune(RecipePart):
    """LoRA fine-tuning with DeepSpeed. The defaults are those of the original command."""

    data: tuple[DataSource, ...] = Field(
        (DataSource(file=Path("data/conversation.json")),),
        title="Training data",
        description="The sources to train on, in order: of duplicate records the first is kept. A "
        "path on its own is one file. The default is `data/conversation.json`.",
    )
    method: Literal["sft", "dpo"] = Field(
        "sft",
        title="Method",
        description="`sft` trains on the answers of conversations (supervised fine-tuning); `dpo` "
        "trains on pairs of a chosen and a rejected answer (direct preference optimization).",
    )
    beta: float = Field(
        0.1,
        gt=0,
        title="Beta",
        description="For `dpo` only: the larger, the closer the model stays to the reference "
        "model.",
    )
    language: str | None = Field(
        "id",
        title="Language",
        description="ISO 639-1 code. Conversations in another language are dropped. Leave empty "
        "to accept every language.",
    )
    same_speaker: Literal["refuse", "merge"] = Field(
        "refuse",
        title="Consecutive turns of one speaker",
        description="`merge` joins them into one turn; `refuse` drops the conversation.",
    )
    max_dropped_share: float = Field(
        0.02,
        ge=0,
        lt=1,
        title="Largest dropped share",
        description="Share of unusable records above which the data is refused.",
    )
    batching: Literal["pad", "group", "pack"] = Field(
        "pad",
        title="Batching",
        description="`pad` pads to the longest conversation of a micro batch; `group` also puts "
        "conversations of similar length together; `pack` puts several into one row, without "
        "attention between them.",
    )
    lora: Lora = Field(default_factory=Lora, title="LoRA", description="Shape of the adapter.")
    epochs: float = Field(3, gt=0, title="Epochs", description="Number of passes over the data.")
    max_steps: int | None = Field(
        None,
        ge=1,
        title="Maximum steps",
        description="Stops after this many steps, even before the last epoch ends.",
    )
    micro_batch_size: int = Field(
        2,
        ge=1,
        title="Micro batch size",
        description="Conversations, or preference pairs, per device and forward pass.",
    )
    gradient_accumulation_steps: int = Field(
        16,
        ge=1,
        title="Gradient accumulation",
        description="Micro batches per optimizer step.",
    )
    learning_rate: float = Field(2e-5, gt=0, title="Learning rate", description="Peak value.")
    lr_scheduler: Literal["cosine", "linear", "constant"] = Field(
        "cosine",
        title="Learning rate schedule",
        description="How the learning rate decays after the warm-up.",
    )
    warmup_ratio: float = Field(
        0.03,
        ge=0,
        lt=1,
        title="Warm-up",
        description="Share of the steps in which the learning rate rises.",
    )
    weight_decay: float = Field(
        0.0, ge=0, title="Weight decay", description="Weight decay of AdamW."
    )
    max_grad_norm: float = Field(
        1.0,
        ge=0,
        title="Gradient clipping",
        description="Maximum norm of the gradients; 0 disables clipping.",
    )
    precision: Dtype = Field(
        "bfloat16", title="Precision", description="Data type of weights and computation."
    )
    max_length_tokens: int = Field(
        2048,
        ge=16,
        title="Maximum length",
        description="Maximum number of tokens of a conversation; longer ones are cut after their "
        "last whole answer.",
    )
    gradient_checkpointing: bool = Field(
        True,
        title="Gradient checkpointing",
        description="Saves memory for about a third more time.",
    )
    zero_stage: Literal[0, 2, 3] = Field(
        3,
        title="ZeRO stage",
        description="What DeepSpeed partitions across devices: 0 nothing, 2 gradients and "
        "optimizer states, 3 the weights as well.",
    )
    offload: Offload = Field(
        "none",
        title="Offload",
        description="What DeepSpeed moves to the host's memory: nothing, the optimizer, or all "
        "(weights as well).",
    )
    offload_directory: Path | None = Field(
        None,
        title="Offload directory",
        description="A directory on a fast disk (NVMe) of the machine that trains, used for "
        "offloading instead of the host's memory. Needs ZeRO-3 and libaio.",
    )
    pin_memory: bool = Field(
        True,
        title="Pinned memory",
        description="Speeds up offloading, for up to twice the host's memory.",
    )
    quantization: Literal["none", "4bit"] = Field(
        "none",
        title="Quantization",
        description="`4bit` stores the frozen weights in NF4 (QLoRA); needs a GPU.",
    )
    device: Literal["cuda", "cpu"] = Field(
        "cuda", title="Device", description="Device that training runs on."
    )
    processes: int = Field(
        1, ge=1, title="Processes", description="Total processes: one per GPU, across all machines."
    )
    hostfile: Path | None = Field(
        None,
        title="Hostfile",
        description="DeepSpeed's hostfile (a line `name slots=GPUs` per machine), on the machine "
        "that runs the stage, to train on several machines that share this directory tree.",
    )
    save_steps: int = Field(
        1200, ge=1, title="Checkpoint interval", description="Steps between two checkpoints."
    )
    save_interval_s: int = Field(
        600,
        ge=1,
        title="Longest checkpoint interval",
        description="Seconds after which a checkpoint is written at the end of the current step, "
        "however few steps have passed.",
    )
    save_total_limit: int = Field(
        10,
        ge=1,
        title="Checkpoints kept",
        description="Number of checkpoints to keep; older ones are deleted.",
    )
    logging_steps: int = Field(
        1,
        ge=1,
        title="Logging interval",
        description="Steps between two logged values of the loss.",
    )
    report_to: tuple[Tracker, ...] = Field(
        (),
        title="Experiment tracking",
        description="Trackers that receive the metrics as well. None by default.",
    )
    validation_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        title="Validation share",
        description="Share of the conversations that is not trained on; its loss is measured "
        "during and after training.",
    )
    seed: int = Field(
        42,
        ge=0,
        lt=2**32,
        title="Seed",
        description="Random seed of the data order and the adapter's initial weights.",
    )

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
        """Leave out the fields of dpo for sft, so that keys from before dpo existed stay valid."""
        plain: dict[str, Any] = handler(self)
        if self.method == "sft":
            plain.pop("method", None)
            plain.pop("beta", None)
        return plain
