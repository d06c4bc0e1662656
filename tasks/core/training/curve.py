"""The loss curve of a training, as a picture and as a table."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tasks.core.training.job import LoggedStep, ValidatedStep

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROWS = 20
_TRAINED, _VALIDATED, _RATE = "#1b7f5c", "#c2571a", "#b9c4cc"


def draw_loss_curve(
    steps: Sequence[LoggedStep],
    path: Path,
    validation: Sequence[ValidatedStep] = (),
    *,
    method: Literal["sft", "dpo"] = "sft",
) -> None:
    """Write both losses and the learning rate over the steps as a PNG file.

    The method decides the unit of the loss. The same steps give the same bytes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    loss = figure.subplots()
    rate = loss.twinx()
    loss.set_zorder(rate.get_zorder() + 1)  # the losses lie over the rate
    loss.patch.set_visible(False)
    _draw_losses(loss, steps, validation)
    loss.set_ylabel(f"loss, nats per {'pair' if method == 'dpo' else 'learned token'}")
    at = [step.step for step in steps]
    rate.plot(at, [step.learning_rate for step in steps], color=_RATE, linewidth=1)
    rate.set_ylabel("learning rate", color="#7b8a94")
    rate.set_ylim(bottom=0)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _draw_losses(
    axes: "Axes", steps: Sequence[LoggedStep], validation: Sequence[ValidatedStep]
) -> None:
    from matplotlib.ticker import MaxNLocator

    finite = [(each.step, each.loss) for each in validation if each.loss is not None]
    curves = [("training", [(step.step, step.loss) for step in steps], _TRAINED)]
    curves += [("validation", finite, _VALIDATED)] if finite else []
    for name, points, color in curves:
        at, losses = [step for step, _ in points], [loss for _, loss in points]
        axes.plot(at, losses, color=color, label=name, marker="o", markersize=3)
    if finite:
        axes.legend(frameon=False)
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def loss_table(steps: Sequence[LoggedStep], validation: Sequence[ValidatedStep] = ()) -> str:
    """Return the curve as a markdown table: at most 20 logged steps, and each validation.

    The first and the last logged step are always among them. A row is one step, not a mean of
    several. For held-out pairs it also has the margin and the share preferred.
    """
    logged = {step.step: step for step in _chosen(steps)}
    validated = {each.step: each for each in validation}
    logged |= {step.step: step for step in steps if step.step in validated}
    measured = _measured(validated.values())
    heads = ["step", "loss", *measured, "learning rate"]
    rows = [_row(heads), f"|{'---:|' * len(heads)}"]
    for step in sorted({*logged, *validated}):
        one = logged.get(step)
        cells = [str(step), f"{one.loss:.4f}" if one else ""]
        cells += [write(validated.get(step)) for write in measured.values()]
        rows.append(_row([*cells, f"{one.learning_rate:.2e}" if one else ""]))
    return "\n".join(rows)


def _chosen(steps: Sequence[LoggedStep]) -> list[LoggedStep]:
    count = min(_ROWS, len(steps))
    return [steps[round(i * (len(steps) - 1) / max(1, count - 1))] for i in range(count)]


def _measured(
    validated: Iterable[ValidatedStep],
) -> dict[str, Callable[[ValidatedStep | None], str]]:
    """Return the columns of the figures that the validations have, by their headings."""
    found = list(validated)
    if not found:
        return {}
    of_pairs = any(each.margin is not None for each in found)
    pairs = {"margin": _margin, "as preferred": _preferred} if of_pairs else {}
    return {"validation loss": _loss, **pairs}


def _margin(validated: ValidatedStep | None) -> str:
    margin = validated.margin if validated else None
    return "" if margin is None else f"{margin:.4f}"


def _preferred(validated: ValidatedStep | None) -> str:
    preferred = validated.preferred if validated else None
    return "" if preferred is None else f"{preferred:.0%}"


def _loss(validated: ValidatedStep | None) -> str:
    if validated is None:
        return ""
    return "not finite" if validated.loss is None else f"{validated.loss:.4f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
