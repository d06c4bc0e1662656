"""What is measured, who judges, and what a model must show to be released."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from tasks.core.recipe.judge import Judge
from tasks.core.recipe.part import Part


class Gate(Part):
    """What the evaluation must show before a model may be published or served."""

    max_perplexity: float | None = Field(
        None,
        gt=1,
        title="Highest perplexity",
        description="Per-token perplexity of the released model.",
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
