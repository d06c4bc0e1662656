"""The picture of bench_serving: throughput and first token by number of clients."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

_COLOURS = ("#b9c4cc", "#1b7f5c", "#2f6db5", "#c9743a", "#7a5bb0")


class Served(Protocol):
    """What the chart needs of a row."""

    @property
    def server(self) -> str: ...
    @property
    def clients(self) -> int: ...
    @property
    def tokens_per_s(self) -> float: ...
    @property
    def first_token_s(self) -> tuple[float, float, float]: ...


def draw(rows: Sequence[Served], path: Path) -> None:
    """Write the chart of all servers as a PNG file."""
    served = [row for row in rows if row.first_token_s[0] > 0]
    servers = list(dict.fromkeys(row.server for row in served))
    loads = sorted({row.clients for row in served})
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    width = 0.8 / len(servers)
    for index, server in enumerate(servers):
        own = {row.clients: row for row in served if row.server == server}
        places = [place + index * width for place, load in enumerate(loads) if load in own]
        shown = [own[load] for load in loads if load in own]
        style = {"width": width, "color": _COLOURS[index % len(_COLOURS)], "label": server}
        bars = left.bar(places, [row.tokens_per_s for row in shown], **style)
        left.bar_label(bars, fmt="%.0f", padding=2, fontsize=8)
        bars = right.bar(places, [row.first_token_s[1] for row in shown], **style)
        right.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
    for axes, title in ((left, "tokens per second, in all"), (right, "first token, 95 %, s")):
        axes.set_title(title, fontsize=10)
        axes.set_xticks([place + 0.4 - width / 2 for place in range(len(loads))])
        axes.set_xticklabels([f"{load} client{'s' if load > 1 else ''}" for load in loads])
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(y=0.15)
    left.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
