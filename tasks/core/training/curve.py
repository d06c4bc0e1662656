"""The loss curve of a training, as a picture and as a table."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tasks.core.training.job import LoggedStep

_ROWS = 20


def draw_loss_curve(steps: Sequence[LoggedStep], path: Path) -> None:
    """Write loss and learning rate over the steps as a PNG file; the same steps, the same bytes."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    loss = figure.subplots()
    at = [step.step for step in steps]
    loss.plot(at, [step.loss for step in steps], color="#1b7f5c", marker="o", markersize=3)
    loss.set_xlabel("step")
    loss.xaxis.set_major_locator(MaxNLocator(integer=True))
    loss.set_ylabel("loss, nats a learned token", color="#1b7f5c")
    loss.grid(alpha=0.3)
    rate = loss.twinx()
    rate.plot(at, [step.learning_rate for step in steps], color="#b9c4cc", linewidth=1)
    rate.set_ylabel("learning rate", color="#7b8a94")
    rate.set_ylim(bottom=0)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def loss_table(steps: Sequence[LoggedStep]) -> str:
    """Return the curve as a markdown table of at most 20 rows, the first and the last among them.

    Each row is a logged step as it was, not a mean of several.
    """
    count = min(_ROWS, len(steps))
    chosen = [steps[round(i * (len(steps) - 1) / max(1, count - 1))] for i in range(count)]
    rows = [f"| {step.step} | {step.loss:.4f} | {step.learning_rate:.2e} |" for step in chosen]
    return "\n".join(["| step | loss | learning rate |", "|---:|---:|---:|", *rows])
