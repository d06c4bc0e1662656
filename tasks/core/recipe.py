"""The recipe: everything that decides what is built and served, one submodel a stage.

Frozen pydantic models that refuse unknown fields. Prefect's form is made from the titles and
descriptions here, and the defaults are the Kawan Usaha system. Only what can be judged without a
model at hand is checked here (whether layer 47 exists is the edit stage's question); neither torch
nor transformers is imported, and a token has no field to stand in.
"""

import re
from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from tasks.core.recipe_data import DataSource, listed
from tasks.core.recipe_deploy import Deploy as Deploy  # noqa: PLC0414 - handed on, for mypy
from tasks.core.recipe_judge import Judge as Judge  # noqa: PLC0414
from tasks.core.recipe_part import Part

Dtype = Literal["float32", "float16", "bfloat16"]
Offload = Literal["none", "optimizer", "all"]
Tracker = Literal["tensorboard", "wandb", "mlflow", "comet_ml", "trackio"]
Keep = Literal["all", "released"]
LayerSelector = int | str

_REPO = re.compile(r"^[\w.-]+(/[\w.-]+)?$")
_SLICE = re.compile(r"^(-?\d+)?:(-?\d+)?$")


def _without_default(schema: dict[str, Any]) -> None:
    """Leave a default that another field excludes out of the form, which would fill it in."""
    schema.pop("default", None)


class Source(Part):
    """Where a model comes from: a Hub repository at a revision, or a directory."""

    default_repo: ClassVar[str | None] = None

    repo: str | None = Field(
        None,
        title="Hub repository",
        description="owner/name of a model repository. Leave empty when a directory is given.",
    )
    revision: str = Field(
        "main",
        title="Revision",
        description="Branch, tag or commit. It is resolved to a commit before anything is loaded. "
        "A model that brings code of its own is taken at a commit only.",
    )
    directory: Path | None = Field(
        None,
        title="Directory",
        description="A model directory on the machine that runs the stage, instead of a Hub "
        "repository.",
    )
    signed_by: Path | None = Field(
        None,
        title="Signed by",
        description="A PEM file with the public key, on the machine that runs the stage. Then the "
        "model must carry a signature (`model.sig`) of this key over each file that is taken. "
        "Leave empty to ask for none.",
    )

    @model_validator(mode="before")
    @classmethod
    def _default_repo_unless_directory(cls, data: Any) -> Any:
        if isinstance(data, dict) and "repo" not in data:
            return {**data, "repo": None if data.get("directory") else cls.default_repo}
        return data

    @model_validator(mode="after")
    def _exactly_one_place(self) -> Self:
        if (self.repo is None) == (self.directory is None):
            raise ValueError("give either repo or directory, not both and not neither")
        if self.repo is not None and not _REPO.match(self.repo):
            raise ValueError(f"{self.repo!r} is not a repository name; write owner/name")
        return self

    def __str__(self) -> str:
        return str(self.directory) if self.directory else f"{self.repo}@{self.revision}"

    @property
    def short_name(self) -> str:
        """The name of the model alone, without owner, revision or the way to its directory."""
        return self.directory.name if self.directory else str(self.repo).rsplit("/", 1)[-1]


class Base(Source):
    """The model that everything starts from."""

    default_repo = "huggyllama/llama-13b"

    repo: str | None = Field(
        default_repo,
        title="Hub repository",
        description="owner/name of the base model. Leave empty when a directory is given.",
        json_schema_extra=_without_default,
    )


class Delta(Source):
    """A weight delta that is added to the base: target = base + delta."""

    default_repo = "lmsys/vicuna-13b-delta-v1.1"

    repo: str | None = Field(
        default_repo,
        title="Hub repository",
        description="owner/name of the delta. Leave empty when a directory is given.",
        json_schema_extra=_without_default,
    )
    dtype: Dtype = Field(
        "float16",
        title="Weight type of the result",
        description="The sum is taken in this type. FastChat adds in float16.",
    )


class ActivationEdit(Part):
    """Another activation function in the MLP of some layers."""

    layers: tuple[LayerSelector, ...] = Field(
        (-1,),
        title="Layers",
        description='Indices (0 is the first, -1 the last), slices as in Python ("0:4", "-4:") '
        'or "all".',
    )
    activation: str = Field(
        "gelu",
        title="Activation",
        description="A name of transformers' activation registry, such as gelu, silu or relu.",
    )

    def __str__(self) -> str:
        many = len(self.layers) > 1 or isinstance(self.layers[0], str)
        chosen = ", ".join(str(layer) for layer in self.layers)
        return f"{self.activation} in {'layers' if many else 'layer'} {chosen}"

    @field_validator("layers", mode="before")
    @classmethod
    def _one_is_a_list_too(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | str) else value

    @field_validator("layers")
    @classmethod
    def _well_formed(cls, value: tuple[LayerSelector, ...]) -> tuple[LayerSelector, ...]:
        if not value:
            raise ValueError("name at least one layer")
        for selector in value:
            if isinstance(selector, str) and selector != "all" and not _SLICE.match(selector):
                raise ValueError(f'{selector!r} is neither an index, a slice "a:b" nor "all"')
        return value


class RopeScalingEdit(Part):
    """A longer context by scaled rotary position embeddings."""

    rope_type: Literal["linear", "dynamic", "yarn"] = Field(
        "linear", title="Kind of scaling", description="As transformers defines them."
    )
    factor: float = Field(
        gt=1.0, title="Factor", description="How many times longer the context becomes."
    )


class Edit(Part):
    """Changes to the architecture that travel with the model."""

    activations: tuple[ActivationEdit, ...] = Field(
        (ActivationEdit(),),
        title="Activations",
        description="The original exchanged SiLU for GELU in the last layer's MLP.",
    )
    rope_scaling: RopeScalingEdit | None = Field(
        None, title="RoPE scaling", description="Leave empty to keep the context length."
    )

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if not self.activations and self.rope_scaling is None:
            raise ValueError("no edit is named; leave `edit` out for a model without one")
        return self

    def __str__(self) -> str:
        edits = [str(each) for each in self.activations]
        if self.rope_scaling is not None:
            edits.append(f"{self.rope_scaling.rope_type} RoPE x {self.rope_scaling.factor:g}")
        return ", ".join(edits)


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
        1, ge=1, title="Processes", description="One a GPU, on all machines together."
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
        names = [str(each) for each in value]
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


class Gate(Part):
    """What the evaluation must show before a model may be published or served."""

    max_perplexity: float | None = Field(
        None, gt=1, title="Highest perplexity", description="Of the released model, a token."
    )
    max_merge_ratio: float | None = Field(
        1.5,
        ge=1,
        title="Highest rise by the merge",
        description="Perplexity of the merged model against its base, where a delta is merged; one "
        "that is better than its base is always within.",
    )
    max_perplexity_ratio: float | None = Field(
        1.25,
        gt=0,
        title="Highest rise in perplexity",
        description="Released model against the one before edit and fine-tuning; 1.0 is no rise.",
    )
    max_kl_divergence: float | None = Field(
        None,
        ge=0,
        title="Highest KL divergence",
        description="From the model before the edit to the edited one, in nats a token.",
    )
    min_finetune_gain: float | None = Field(
        None,
        ge=0,
        lt=1,
        title="Smallest gain of the fine-tune",
        description="Share by which fine-tuning must lower the perplexity; 0.02 is 2 %.",
    )
    max_ratio_to_release: float | None = Field(
        None,
        gt=0,
        title="Highest perplexity against the release before",
        description="1.0 is not worse than the last release of this recipe, 0.98 is better by 2 %, "
        "1.05 allows 5 % more.",
    )
    min_judge_win_rate: float | None = Field(
        None,
        gt=0,
        le=1,
        title="Smallest share that the judge prefers",
        description="Of the pairs judged, how many answers of the released model are preferred to "
        "those of the release before; a tie counts half. A judge holds up nothing without this.",
    )


class Evaluate(Part):
    """Measured proof that the model is what was meant."""

    conversations: Path = Field(
        Path("data/evaluation/held_out.json"),
        title="Held-out conversations",
        description="A file of conversations in a format of `finetune.data`, on the machine that "
        "runs the stage. Never in training.",
    )
    prompts: Path = Field(
        Path("data/evaluation/prompts.json"),
        title="Prompts",
        description="A file with questions that are answered side by side, on the machine that "
        "runs the stage.",
    )
    max_dropped_share: float = Field(
        0.02,
        ge=0,
        lt=1,
        title="Most that may be dropped",
        description="Share of the held-out records that cannot be used, above which the file is "
        "refused.",
    )
    max_conversations: int | None = Field(
        None, ge=1, title="Conversations", description="How many are measured; all by default."
    )
    max_prompts: int = Field(4, ge=0, title="Answers", description="How many prompts are answered.")
    max_new_tokens: int = Field(64, ge=1, title="Length of an answer", description="In tokens.")
    max_length_tokens: int = Field(
        2048, ge=16, title="Length", description="Tokens a conversation; longer ones are cut."
    )
    device: Literal["cuda", "cpu"] = Field(
        "cuda", title="Device", description="What the evaluation computes on."
    )
    benchmarks: tuple[str, ...] = Field(
        (),
        title="Benchmarks",
        description="Tasks or groups of lm-eval by name, for the released model and those that it "
        "is held against. Needs the package lm-eval.",
    )
    benchmark_tasks: Path | None = Field(
        None,
        title="Own benchmarks",
        description="A directory of lm-eval task files, on the machine that runs the stage, to be "
        "named above. With data files beside them they need no network.",
    )
    benchmark_limit: int | None = Field(
        None, ge=1, title="Benchmark size", description="Questions a task; all by default."
    )
    judge: Judge | None = Field(
        None,
        title="Judge",
        description="Reads the answers beside those of the release before. Leave out to ask "
        "nobody.",
    )
    gate: Gate = Field(
        default_factory=Gate, title="Gate", description="Leave a limit empty to switch it off."
    )

    @model_validator(mode="after")
    def _limit_of_a_judge(self) -> Self:
        if self.gate.min_judge_win_rate is not None and self.judge is None:
            raise ValueError("gate.min_judge_win_rate needs a judge; name one in evaluate.judge")
        return self


class Publish(Part):
    """Where the finished model goes: a Hub repository, or a directory or bucket."""

    repo: str | None = Field(
        None,
        title="Hub repository",
        description="owner/name; created when missing. Leave empty when a target is given.",
    )
    target: str | None = Field(
        None,
        title="Directory or bucket",
        description="A directory on the machine that runs the stage, or an fsspec URL such as "
        "s3://bucket/models, instead of a Hub repository. Keys for it come from the environment, "
        "never from here.",
    )
    private: bool = Field(
        True, title="Private", description="Visible only to its owner and the owner's team."
    )
    language: str = Field("id", title="Language", description="ISO 639-1 code for the model card.")
    license: str = Field(
        "other", title="Licence", description="The Hub's licence identifier for the model card."
    )
    accept_license: str | None = Field(
        None,
        title="Acceptance of the licence",
        description="A public repository of weights with a non-commercial licence, or of unknown "
        "origin, needs a sentence here; the refusal says which one.",
    )
    signed_by: Path | None = Field(
        None,
        title="Signed by",
        description="A PEM file with a public key, on the machine that runs the stage. What is "
        "published is then signed (`model.sig`) with its private key, which "
        "KAWAN_USAHA_SIGNING_KEY names and which has no place here. Leave empty to sign nothing.",
    )

    @model_validator(mode="after")
    def _exactly_one_place(self) -> Self:
        if (self.repo is None) == (self.target is None):
            raise ValueError("give either repo or target, not both and not neither")
        if self.repo is not None and not _REPO.match(self.repo):
            raise ValueError(f"{self.repo!r} is not a repository name; write owner/name")
        if self.target is not None and urlsplit(self.target).password is not None:
            raise ValueError("a password has no place in a recipe; give it by the environment")
        return self


class Recipe(Part):
    """One model, from its sources to its service."""

    name: str = Field(
        "kawan-usaha-13b",
        pattern=r"^[a-z0-9][a-z0-9.-]*$",
        title="Name",
        description="Names the runs and the deployment of this recipe.",
    )
    hub: Literal["huggingface", "embedded"] = Field(
        "huggingface",
        title="Hub",
        description="`huggingface` is the Hub that HF_ENDPOINT names, by default huggingface.co; "
        "`embedded` is a small one on this machine, for the demo and for trials.",
    )
    when_offline: Literal["refuse", "last-commit"] = Field(
        "refuse",
        title="When the Hub does not answer",
        description="What a run does that cannot ask which commit a branch or tag names now: "
        "`refuse`, or go on with the `last-commit` that a run has seen, if the store has it. That "
        "may be an old one; the run warns of it. A full commit as revision needs no answer.",
    )
    template: str = Field(
        "vicuna_v1.1",
        title="Conversation template",
        description="The FastChat template that the model is trained, tested and served with. A "
        "model that records another one is refused, unless it is fine-tuned here.",
    )
    base: Base = Field(default_factory=Base, title="Base model", description="Always needed.")
    delta: Delta | None = Field(
        None, title="Delta", description="Leave out when the base is already the whole model."
    )
    edit: Edit | None = Field(
        None, title="Edit", description="Leave out to keep the architecture as it is."
    )
    finetune: Finetune | None = Field(
        None, title="Fine-tune", description="Leave out to keep the weights as they are."
    )
    evaluate: Evaluate = Field(
        default_factory=Evaluate, title="Evaluate", description="Always done."
    )
    publish: Publish | None = Field(
        None, title="Publish", description="Leave out to keep the model on this machine."
    )
    deploy: Deploy | None = Field(
        None, title="Deploy", description="Leave out to build without serving."
    )
    keep: Keep = Field(
        "all",
        title="Keep",
        description="Which models stay on the disk: `all`, so that every stage can be repeated at "
        "once, or only the `released` one. Inputs that no later stage needs are then freed, and "
        "made again (downloads included) when a changed recipe needs them.",
    )


KAWAN_USAHA = Recipe(
    delta=Delta(),
    edit=Edit(),
    finetune=Finetune(processes=2),
    deploy=Deploy(switch="replace"),  # two 13B models do not fit on one card of 24 GB
)
"""The system as the team built it by hand. A stage that a recipe leaves out is not run, so this
names each one that the original had."""
