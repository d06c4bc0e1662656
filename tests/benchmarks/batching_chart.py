"""The batching benchmark's picture: what is padding, and how many useful tokens a second."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from matplotlib.figure import Figure

_PADDED, _USEFUL = "#c8553d", "#1b7f5c"


class Measured(Protocol):
    """What the chart needs of a row."""

    @property
    def data(self) -> str: ...
    @property
    def way(self) -> str: ...
    @property
    def padded_share(self) -> float: ...
    @property
    def useful_tokens_per_s(self) -> float: ...


def draw(rows: Sequence[Measured], path: Path, *, title: str) -> None:
    """Write the chart as a PNG file: a line of panels for each data set."""
    sets = list(dict.fromkeys(row.data for row in rows))
    figure = Figure(figsize=(10, 2.1 * len(sets) + 0.6), dpi=120, layout="constrained")
    panels = figure.subplots(len(sets), 2, sharey="row", squeeze=False)
    for (left, right), name in zip(panels, sets, strict=True):
        shown = [row for row in rows if row.data == name][::-1]
        ways = [row.way for row in shown]
        shares = left.barh(ways, [100 * row.padded_share for row in shown], color=_PADDED)
        speeds = right.barh(ways, [row.useful_tokens_per_s for row in shown], color=_USEFUL)
        left.bar_label(shares, fmt="%.1f%%", padding=3)
        right.bar_label(speeds, fmt="{:,.0f}", padding=3)
        left.set_title(name, loc="left", fontsize=10)
        left.set_xlim(0, 100)
        right.margins(x=0.15)
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
    panels[-1][0].set_xlabel("share of padding, % of all tokens")
    panels[-1][1].set_xlabel("useful tokens a second")
    figure.suptitle(title)
    figure.savefig(path, format="png")
