"""The soak's picture: each series over the time, the warm-up shaded, events marked."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from tests.soak.readings import FLOW_RUN
from tests.soak.verdict import WARM_UP, Points

_COLOURS = (
    *("#1b7f5c", "#2f6db5", "#c9743a", "#7a5bb0", "#b03a5b", "#5b8c2a", "#8a6d3b", "#4a4f55"),
    *("#b9c4cc", "#d4a017"),
)
_PANELS = (
    ("memory", "anonymous memory, MB", 1e6),
    ("peak", "peak memory of a flow run, MB", 1e6),
    ("descriptors", "open descriptors", 1),
    ("threads", "threads", 1),
    ("disk", "bytes on the disk, MB", 1e6),
    ("files", "files", 1),
)


def draw(
    series: Mapping[str, Points],
    events: Mapping[str, float],
    until_s: float,
    path: Path,
    title: str,
) -> None:
    """Write the chart as a PNG file."""
    figure, panels = plt.subplots(3, 2, figsize=(13, 12), sharex=True)
    for axes, (kind, label, unit) in zip(panels.flat, _PANELS, strict=True):
        shown = {n: points for n, points in series.items() if n.partition("/")[0] == kind}
        for number, (name, points) in enumerate(sorted(shown.items())):
            at = [seconds / 60 for seconds, _ in points]
            style = {"color": _COLOURS[number % len(_COLOURS)], "linewidth": 1.2}
            if name.endswith(f"/{FLOW_RUN}"):  # a point a run
                style |= {"marker": ".", "linestyle": "none"}
            values = [value / unit for _, value in points]
            axes.plot(at, values, label=name.partition("/")[2], **style)
        axes.axvspan(0, until_s * WARM_UP / 60, color="#eef1f3", zorder=0)
        for event, seconds in events.items():
            axes.axvline(seconds / 60, color="#b9c4cc", linestyle="--", linewidth=1)
            axes.annotate(event, (seconds / 60, 0.99), xycoords=("data", "axes fraction"),
                          fontsize=7, rotation=90, va="top", ha="right")  # fmt: skip
        axes.set_title(label, fontsize=10)
        axes.set_ylim(bottom=0)
        axes.set_xlim(0, until_s / 60)
        axes.spines[["top", "right"]].set_visible(False)
        if shown:
            axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    for axes in panels[-1]:
        axes.set_xlabel("minutes")
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
