"""The plan as plain text: tables of strings, without colours or a terminal.

It adds nothing to the plan; sizes are in decimal gigabytes.
"""

from collections.abc import Iterable, Sequence

from tasks.core.machine.hardware import Hardware
from tasks.core.planning.plan import Plan
from tasks.core.planning.rungs import RungFit
from tasks.core.planning.serving import ServingFit
from tasks.core.planning.training_fit import TrainingFit
from tasks.core.planning.training_memory import Term
from tasks.core.units import about, readable

Row = Sequence[str]
NOT_MEASURED = "not measured"


def plan_text(plan: Plan) -> str:
    """Return the whole plan as text, the summary first."""
    parts = [summary_text(plan)]
    if plan.training:
        parts += ["", "Fine-tune", *_training(plan.training)]
    if plan.serving:
        parts += ["", "Serving", plan.serving.reason, *_cpu_answers(plan)]
        parts += ["", table(serving_rows(plan.serving))]
        parts += [f"- {remedy}" for remedy in plan.serving.remedies]
    parts += ["", "Assumptions", *(f"- {line}" for line in plan.assumptions)]
    return "\n".join(parts) + "\n"


def summary_text(plan: Plan) -> str:
    """Return the summary that a run starts with: verdict, time, every warning, and the stages."""
    parts = [
        f"{plan.recipe}: {plan.verdict}",
        f"{plan.total_params / 1e9:.2f} billion parameters on {_machine(plan.hardware)}",
        _time_in_all(plan),
        *(f"Attention: {text}" for text in plan.warnings),
        "",
        table(stage_rows(plan)),
        f"{readable(plan.hardware.disk_free_bytes)} of disk are free.",
        *_disk(plan),
        *(f"{s.need.name}: {s.reason}" for s in plan.stages if s.verdict != "fits"),
    ]
    return "\n".join(parts)


def ladder_text(training: TrainingFit) -> str:
    """Return the training alone: the verdict, each rung, and the first that fits term by term."""
    verdict = [] if training.verdict == "fits" else [training.reason]  # else it is among the lines
    warnings = (f"Attention: {text}" for text in training.warnings)
    return "\n".join([*warnings, *verdict, *_training(training)])


def stage_rows(plan: Plan) -> list[Row]:
    """Return the stages' table, headings first and sums last."""
    rows: list[Row] = [("stage", "disk", "download", "host memory", "time", "verdict")]
    for stage in plan.stages:
        need = stage.need
        rows.append(
            (
                need.name,
                _size(need.disk_bytes),
                _size(need.download_bytes),
                _size(need.host_bytes),
                rough_duration(need.seconds) or NOT_MEASURED,
                stage.verdict,
            )
        )
    time = rough_duration(plan.seconds) or NOT_MEASURED
    rows.append(("in all", _size(plan.disk_bytes), _size(plan.download_bytes), "", time, ""))
    return rows


def rung_rows(training: TrainingFit) -> list[Row]:
    """Return the table of rungs: what each needs, and how long it takes."""
    rows: list[Row] = [("", "rung", "per GPU", "host", "time", "fits")]
    for fit in training.rungs:
        rows.append(
            (
                str(fit.number),
                fit.rung.name,
                _size(fit.gpu_bytes),
                _size(fit.host_bytes),
                rough_duration(fit.seconds),
                _fits(fit),
            )
        )
    return rows


def term_rows(terms: Iterable[Term]) -> list[Row]:
    """Return a need term by term, with its source."""
    return [(term.name, readable(term.bytes), term.why) for term in terms]


def serving_rows(serving: ServingFit) -> list[Row]:
    """Return the table of weight widths."""
    rows: list[Row] = [("weights", "empty", "per conversation", "concurrent")]
    for width in serving.widths:
        chosen = " (chosen)" if width.bits == serving.chosen_bits else ""
        each = readable(width.memory.kv_bytes_per_sequence)
        name = f"{width.bits} bits{chosen}"
        rows.append((name, readable(width.fixed_bytes), each, str(width.sequences)))
    return rows


def table(rows: Sequence[Row]) -> str:
    """Return rows of equal length as aligned columns of text."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def rough_duration(seconds: float | None) -> str:
    """Return an estimated time without false precision; "" if unknown."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _training(training: TrainingFit) -> list[str]:
    lines = [training.reason] if training.verdict == "fits" else []
    if training.replicated:
        lines.append(training.replicated)
    lines += ["", table(rung_rows(training)), ""]
    shown = training.shown
    rung, place = shown.rung, "Each GPU" if shown.memory.gpu else "The host"
    if shown.number > 1:
        lines.append(f"Rung {shown.number}: {rung.changes}.")
        lines += [f"  saves: {rung.saves}.", f"  costs: {rung.costs}.", ""]
    lines.append(f"{place} on rung {shown.number}, term by term:")
    lines.append(table(term_rows(shown.memory.gpu or shown.memory.host)))
    lines.append(f"The global batch is {training.global_batch_size} on every rung.")
    lines += [f"- {text}" for text in training.remedies]
    return lines


def _time_in_all(plan: Plan) -> str:
    """Return the time of the whole run, and of its longest stage."""
    known = [s.need for s in plan.stages if s.need.seconds is not None]
    longest = max(known, key=lambda need: need.seconds or 0.0)
    unknown = [s.need.name for s in plan.stages if s.need.seconds is None]
    if unknown:
        return f"The time is not measured: {', '.join(unknown)}."
    most = f", {rough_duration(longest.seconds)} of it for {longest.name}"
    return f"Takes {about(plan.seconds or 0.0)}{most}."


def _cpu_answers(plan: Plan) -> list[str]:
    """Return how fast the CPU answers; nothing for a GPU."""
    serving = plan.serving
    if serving is None or serving.device != "cpu":
        return []
    if serving.cpu_tokens_per_s is None:
        return [f"Speed of an answer: {NOT_MEASURED}."]
    speed = f"One answer at a time: about {serving.cpu_tokens_per_s:.2g} tokens a second"
    if serving.chosen_bits == 8:
        return [f"{speed} with deploy.load_8bit: false; FastChat's 8 bits are slower on a CPU."]
    return [f"{speed}."]


def _disk(plan: Plan) -> list[str]:
    """Return the disk for both values of `keep`, if they differ."""
    if plan.disk_bytes_released == plan.disk_bytes:
        return []
    every, released = readable(plan.disk_bytes), readable(plan.disk_bytes_released)
    return [
        f"Needed: {every} with `keep: all`, at most {released} with `keep: released`; the "
        f"recipe says `keep: {plan.keep}`."
    ]


def _machine(hardware: Hardware) -> str:
    names = sorted({gpu.name for gpu in hardware.gpus})
    cards = ", ".join(
        f"{sum(gpu.name == name for gpu in hardware.gpus)} x {name} "
        f"({readable(min(g.memory_bytes for g in hardware.gpus if g.name == name))})"
        for name in names
    )
    host = f"{readable(hardware.memory_bytes)} host memory, {hardware.cores} cores"
    return f"{cards or 'no GPU'}, {host}"


def _fits(fit: RungFit) -> str:
    if fit.fits:
        return "yes"
    lacking = [name for name, fits in (("GPU", fit.gpu_fits), ("host", fit.host_fits)) if not fits]
    return f"no: {', '.join(lacking)}"


def _size(size_bytes: int) -> str:
    return readable(size_bytes) if size_bytes else ""
