"""What is measured, and the limits that a model must keep to be released."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from tasks.core.recipe.judge import Judge
from tasks.core.recipe.part import RecipePart


class Gate(RecipePart):
    """Limits that the evaluation must keep before a model may be published or served."""

    max_perplexity: float | None = Field(
        None,
        gt=1,
        title="Highest perplexity",
        description="Upper limit on the per-token perplexity of the released model.",
    )
    max_merge_ratio: float | None = Field(
        1.5,
        ge=1,
        title="Highest ratio of the merge",
        description="Upper limit on the perplexity of the merged model divided by its base's, if "
        "a delta is merged. A merged model that is better than its base always passes.",
    )
    max_perplexity_ratio: float | None = Field(
        1.25,
        gt=0,
        title="Highest perplexity ratio",
        description="Upper limit on the perplexity of the released model divided by that of the "
        "model before edit and fine-tuning; 1.0 allows no increase.",
    )
    max_kl_divergence: float | None = Field(
        None,
        ge=0,
        title="Highest KL divergence",
        description="Upper limit on the divergence of the edited model from the model before the "
        "edit, in nats per token.",
    )
    min_finetune_gain: float | None = Field(
        None,
        ge=0,
        lt=1,
        title="Smallest gain of fine-tuning",
        description="Share by which fine-tuning must lower the perplexity; 0.02 is 2 %.",
    )
    max_ratio_to_release: float | None = Field(
        None,
        gt=0,
        title="Highest ratio to the last release",
        description="Upper limit on the perplexity divided by that of the last release of this "
        "recipe: 1.0 must be no worse, 0.98 must be 2 % better, 1.05 may be 5 % worse.",
    )
    min_judge_win_rate: float | None = Field(
        None,
        gt=0,
        le=1,
        title="Smallest win rate",
        description="Share of judged pairs in which the judge must prefer the new model to the "
        "last release; a tie counts half. Without this limit the judge does not affect the "
        "release.",
    )


class Evaluate(RecipePart):
    """Measurements of the model, and the gate that decides on its release."""

    conversations: Path = Field(
        Path("data/evaluation/held_out.json"),
        title="Held-out conversations",
        description="A file of conversations, in any format of `finetune.data`, on the machine "
        "that runs the stage. They must not be trained on.",
    )
    prompts: Path = Field(
        Path("data/evaluation/prompts.json"),
        title="Prompts",
        description="A file of prompts, on the machine that runs the stage; the answers of all "
        "models are shown side by side.",
    )
    max_dropped_share: float = Field(
        0.02,
        ge=0,
        lt=1,
        title="Largest dropped share",
        description="Share of unusable held-out records above which the file is refused.",
    )
    max_conversations: int | None = Field(
        None,
        ge=1,
        title="Number of conversations",
        description="How many held-out conversations are measured; all by default.",
    )
    max_prompts: int = Field(
        4, ge=0, title="Number of prompts", description="How many of the prompts are answered."
    )
    max_new_tokens: int = Field(
        64, ge=1, title="Answer length", description="Maximum number of tokens of an answer."
    )
    max_length_tokens: int = Field(
        2048,
        ge=16,
        title="Maximum length",
        description="Maximum number of tokens of a conversation; longer ones are cut after their "
        "last whole answer.",
    )
    device: Literal["cuda", "cpu"] = Field(
        "cuda", title="Device", description="Device that the evaluation runs on."
    )
    benchmarks: tuple[str, ...] = Field(
        (),
        title="Benchmarks",
        description="Names of lm-eval tasks or groups to run on the released model and on those "
        "it is compared with. Needs the package lm-eval.",
    )
    benchmark_tasks: Path | None = Field(
        None,
        title="Own benchmarks",
        description="A directory of lm-eval task files, on the machine that runs the stage, which "
        "`benchmarks` may name. With data files beside them they need no network.",
    )
    benchmark_limit: int | None = Field(
        None,
        ge=1,
        title="Benchmark size",
        description="Maximum number of questions per task; all by default.",
    )
    judge: Judge | None = Field(
        None,
        title="Judge",
        description="A model that compares the answers with those of the last release. Leave out "
        "to use none.",
    )
    gate: Gate = Field(
        default_factory=Gate,
        title="Gate",
        description="Limits on the measurements. Leave a limit empty to switch it off.",
    )

    @model_validator(mode="after")
    def _limit_of_a_judge(self) -> Self:
        if self.gate.min_judge_win_rate is not None and self.judge is None:
            raise ValueError("gate.min_judge_win_rate needs a judge; name one in evaluate.judge")
        return self
