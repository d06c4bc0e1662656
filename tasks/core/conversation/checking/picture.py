"""The lengths of a screening as a chart, for a report or a pull request."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.core.conversation.checking.findings import Screening
from tasks.core.conversation.checking.lengths import Size

_LEARNED, _MASKED, _TRUNCATED, _BARS = "#1b7f5c", "#b9c4cc", "#c8553d", "#4a7fa5"


def draw_lengths(screening: Screening, path: Path, max_length_tokens: int | None = None) -> None:
    """Write the histogram of lengths as a PNG file, above the shares of tokens if known."""
    with_tokens = screening.lengths.unit == "tokens" and screening.total.tokens > 0
    figure = Figure(figsize=(8, 4.6 if with_tokens else 3.8), dpi=120, layout="constrained")
    ratios = [5, 1] if with_tokens else [1]
    axes = figure.subplots(len(ratios), 1, height_ratios=ratios, squeeze=False)[:, 0]
    _draw_histogram(axes[0], screening, max_length_tokens if with_tokens else None)
    if with_tokens:
        _draw_tokens(axes[1], screening.total)
    figure.suptitle(
        f"{_title(screening)}: {screening.records:,} records, {screening.kept:,} kept, "
        f"{screening.dropped:,} dropped"
    )
    figure.savefig(path, format="png")


def _title(screening: Screening) -> str:
    first, *others = (Path(each.file.name).name for each in screening.files)
    return f"{first} and {len(others)} more" if others else first


def _draw_histogram(axes: Axes, screening: Screening, limit: int | None) -> None:
    classes = list(screening.lengths.classes())
    heights = [one.conversations for one in classes]
    bars = axes.bar(range(len(classes)), heights, width=0.95, align="edge", color=_BARS)
    axes.bar_label(bars, labels=[f"{height:,}" if height else "" for height in heights], padding=2)
    edges = [*(one.start for one in classes), *(one.stop for one in classes[-1:])]
    axes.set_xticks(range(len(edges)), [f"{edge:,}" for edge in edges])
    if limit is not None and edges:
        place = sum(edge <= limit for edge in edges) - 1
        if 0 <= place < len(classes):
            inside = (limit - edges[place]) / (edges[place + 1] - edges[place])
            axes.axvline(place + inside, color=_TRUNCATED, linestyle="--")
            axes.annotate(
                f"length {limit:,}", (place + inside, max(heights)), color=_TRUNCATED, ha="right"
            )
    axes.set_xlabel(f"length in {screening.lengths.unit}")
    axes.set_ylabel("conversations")
    axes.margins(y=0.15)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_tokens(axes: Axes, size: Size) -> None:
    amounts = {
        "learned": (size.learned_tokens, _LEARNED),
        "masked": (size.tokens - size.learned_tokens, _MASKED),
        "truncated": (size.truncated_tokens, _TRUNCATED),
    }
    left = 0
    whole = size.tokens + size.truncated_tokens
    for name, (tokens, colour) in amounts.items():
        label = f"{name}: {tokens:,} ({tokens / whole:.0%})"
        axes.barh([0], [tokens], left=left, color=colour, label=label)
        left += tokens
    axes.set_yticks([])
    axes.set_xlim(0, whole)
    axes.set_xlabel("tokens")
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
