"""Evaluate and gate: figures of every model of the chain, and the verdict on the last."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from tasks.core.conversation.checking.leaks import Overlap
from tasks.core.errors import GateFailed, JudgeRefused, JudgeUnavailable, KawanUsahaError
from tasks.core.evaluation.evaluate import (
    OUTCOME,
    evaluate_models,
    measurement_identity,
    read_evaluation,
)
from tasks.core.evaluation.figures import (
    EvaluationOutcome,
    Role,
    compared_roles,
    subjects_of,
)
from tasks.core.evaluation.gate import GateVerdict, apply_gate
from tasks.core.evaluation.side_by_side import judge_identity, with_judgement
from tasks.core.evaluation.summary import notes, summary_markdown
from tasks.core.files.durable import write_atomically
from tasks.core.home import home
from tasks.core.keys import digest, stage_key
from tasks.core.recipe import Evaluate, Gate, Judge
from tasks.core.store import Artifact, Staging
from tasks.core.store.runs import RunRecords
from tasks.outbox import show_markdown
from tasks.progress import log_line, output_log
from tasks.runtime import artifacts_with, build_stage, run_store, stage_task
from tasks.stage_result import StageResult

VERSION = 4
GATE_VERSION = 2


def _name(chain: Sequence[tuple[Role, StageResult]], **_: object) -> str:
    return ", ".join(role for role, _ in chain)


@stage_task("evaluate", _name)
def evaluate(
    chain: Sequence[tuple[Role, StageResult]],
    settings: Evaluate,
    template: str,
    before: Artifact | None = None,
    overlap: Overlap | None = None,
) -> StageResult:
    """Measure each model against the one before it, and the last against the release before.

    `overlap`: the held-out conversations that are also in the training data; the outcome says which
    of them were measured.
    """
    params = measurement_identity(settings, template)
    inputs: dict[str, str] = {role: model.digest for role, model in chain}
    if before is not None:
        inputs["release before"] = before.digest
    if overlap is not None:
        inputs["leaks"] = digest(asdict(overlap))
    built = [model.artifact for _, model in chain]
    models = [(role, model.path) for role, model in chain]
    subjects = subjects_of(models, before.path if before else None)

    def write(staging: Staging) -> None:
        if before is not None and str(before.key) not in built:  # those are held by this stage
            run_store().require_content(before)
        log = output_log("evaluate")
        evaluate_models(
            subjects,
            settings,
            template=template,
            out=staging.path,
            overlap=overlap,
            on_line=log_line,
            log=log,
        )

    key = stage_key("evaluate", VERSION, params, inputs)
    files = artifacts_with([settings.conversations, settings.prompts])
    reads = [model for _, model in chain]
    measured = build_stage(key, write, params, inputs, reads=reads, needs=files)
    return measured if settings.judge is None else _judged(measured, settings, settings.judge)


def _judged(measured: StageResult, settings: Evaluate, judge: Judge) -> StageResult:
    """Return the evaluation with the judge's verdicts, as a separate artifact.

    So another judge does not repeat the measuring, and an interrupted one resumes. A judge that
    cannot be reached is only a warning, unless the gate has a limit on its verdicts.
    """
    params, inputs = {"judge": judge_identity(judge)}, {"evaluation": measured.digest}
    outcome = read_evaluation(measured.path)
    if compared_roles(outcome) is None:
        log_line("judge: there is no earlier release to compare with")
        return measured

    def write(staging: Staging) -> None:
        found = with_judgement(outcome, judge, staging.path, log_line)
        write_atomically(staging.path / OUTCOME, found.model_dump_json(indent=1) + "\n")

    try:
        key = stage_key("evaluate", VERSION, params, inputs)
        needs = artifacts_with([judge.ratings])
        return build_stage(key, write, params, inputs, reads=[measured], needs=needs)
    except (JudgeRefused, JudgeUnavailable) as error:
        if settings.gate.min_judge_win_rate is not None:
            raise
        get_run_logger().warning("The answers are not judged; the run continues. %s", error)
        return measured


def _limits(limits: Gate, **_: object) -> str:
    given = [(name, limit) for name, limit in limits.model_dump().items() if limit is not None]
    words = [f"{name.partition('_')[2].replace('_', ' ')} {limit:g}" for name, limit in given]
    return ", ".join(words) or "no limit"


@stage_task("gate", _limits)
def gate(evaluation: StageResult, limits: Gate, override: str | None) -> StageResult:
    """Apply the gate, store the verdict as an artifact, and show it: `Passed`, `Forced`, `Refused`.

    The reason for a forced release is in the artifact's manifest, among its parameters.
    """
    outcome, verdict = verdict_of(evaluation.path, limits, override)
    for note in notes(outcome):
        get_run_logger().warning("%s", note)
    show_markdown(
        summary_markdown(outcome, verdict), key="evaluation", description="Figures and verdict"
    )
    params = {"limits": limits.model_dump(mode="json"), "forced": verdict.forced}
    inputs = {"evaluation": evaluation.digest}

    def write(staging: Staging) -> None:
        write_atomically(staging.path / "verdict.json", verdict.model_dump_json(indent=1) + "\n")

    ruling = build_stage(stage_key("gate", GATE_VERSION, params, inputs), write, params, inputs)
    # Prefect unwraps a returned state: `run` gives its data, or raises it.
    return cast("StageResult", _state(verdict, ruling, evaluation))


def _state(
    verdict: GateVerdict, ruling: StageResult, evaluation: StageResult
) -> State[StageResult] | State[KawanUsahaError]:
    reasons = "; ".join(verdict.reasons) or "the recipe sets no limit"
    if verdict.passed:
        return Completed(name="Passed", message=reasons, data=ruling)
    if verdict.forced is not None:
        message = f"{reasons}. Released anyway: {verdict.forced}"
        get_run_logger().warning("%s", message)
        return Completed(name="Forced", message=message, data=ruling)
    error = GateFailed(
        "The model is not published or served: it does not meet the recipe's limits.",
        where=evaluation.path,
        found=reasons,
        next_step="Read the report, then change the recipe, or its limits if they are wrong. To "
        'release this model anyway: `kawan-usaha rebuild … --override-gate "the reason"`.',
    )
    return Failed(name="Refused", message=str(error), data=error)


def verdict_of(
    artifact: Path, limits: Gate, override: str | None = None
) -> tuple[EvaluationOutcome, GateVerdict]:
    """Return the figures of an evaluation and the verdict by these limits."""
    outcome = read_evaluation(artifact)
    return outcome, apply_gate(outcome, limits, override=override)


def release_before(recipe: str, released: StageResult) -> Artifact | None:
    """Return the recipe's latest release with other content than this model; None without one.

    Also None, with a line in the log, when its artifact is damaged (it is set aside) or was removed
    from the store by hand: `prune` keeps the last releases of each recipe.
    """
    same, store = [released.artifact], run_store()
    while name := RunRecords(home()).release_before(recipe, *same):
        found = store.named(name) or store.pull(name)
        if found is None:
            get_run_logger().warning(
                "%s, the release before, is damaged or no longer in the store: the model is judged "
                "without comparing it with that release",
                name,
            )
            return None
        if found.digest != released.digest:
            return found
        same.append(name)
    return None
