"""The benchmark's picture: wall time and peak memory, a bar for each contender."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

_OURS, _OTHERS = "#1b7f5c", "#b9c4cc"


class Measured(Protocol):
    """What the chart needs of a row."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def wall_s(self) -> float | None: ...
    @property
    def peak_bytes(self) -> int | None: ...


def draw(rows: Sequence[Measured], path: Path, *, title: str) -> None:
    """Write the chart of all rows that have a result as a PNG file."""
    shown = [row for row in rows if row.wall_s is not None][::-1]
    names = [f"{row.kind}: {row.name}" for row in shown]
    colours = [_OURS if row.name == "ours" else _OTHERS for row in shown]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 0.4 * len(shown) + 1.4), sharey=True)
    panels = (
        (left, [row.wall_s or 0.0 for row in shown], "wall time, s", "%.1f"),
        (right, [(row.peak_bytes or 0) / 1e9 for row in shown], "peak memory, GB", "%.2f"),
    )
    for axes, values, label, form in panels:
        bars = axes.barh(names, values, color=colours)
        axes.bar_label(bars, fmt=form, padding=3)
        axes.set_xlabel(label)
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
