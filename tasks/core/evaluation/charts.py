"""The report's charts, as SVG inside the page. Colours come from its style sheet.

Covers bars that start at zero and lines over steps; knows nothing of models or stages.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from tasks.core.evaluation.numbers import number

_WIDTH = 880
_CURVE_HEIGHT = 280
_TEXT_HEIGHT = 17
_OFF_THE_SCALE = 10.0
"""A bar longer than this many times the shortest would make the others too short to compare."""


def bars(values: Sequence[tuple[str, float]]) -> str:
    """Return horizontal bars, on a linear scale that starts at zero.

    A bar that is off the scale, or whose value is not finite, reaches the edge and has a gap.
    """
    left, right, row = 130, 150, 38
    room, height = _WIDTH - left - right, row * len(values) + 34
    finite = [value for _, value in values if math.isfinite(value)]
    shown = [value for value in finite if value <= _OFF_THE_SCALE * min(finite)]
    ticks = _ticks(0.0, max(shown, default=1.0))
    parts = []
    for tick in ticks:
        x = left + room * tick / ticks[-1]
        parts += [_line(x, 4, x, height - 28, "grid"), _text(x, height - 10, f"{tick:g}", "tick")]
    for index, (name, value) in enumerate(values):
        y = 8 + index * row
        fits = math.isfinite(value) and value <= ticks[-1]
        length = room * value / ticks[-1] if fits else room
        parts.append(_text(left - 12, y + 16, name, "name"))
        parts.append(_rect(left, y, length, 22, "bar" if fits else "bar cut"))
        if not fits:
            parts += [_rect(left + room * 0.9, y - 2, 5, 26, "gap")]
        parts.append(_text(left + length + 10, y + 16, number(value), "value"))
    return _svg(height, parts, "Perplexity of each model as bars")


def curve(lines: Mapping[str, Sequence[tuple[int, float]]], label: str) -> str:
    """Return lines over steps, each labelled with its last value, and its name if there are two.

    Needs at least one line of at least one point, with finite values.
    """
    axes = _Axes.around(lines)
    parts = list(axes.grid())
    ends = _apart([axes.y(points[-1][1]) for points in lines.values()])
    for (name, points), end in zip(lines.items(), ends, strict=True):
        line = " ".join(f"{axes.x(step):.1f},{axes.y(value):.1f}" for step, value in points)
        parts.append(f'<polyline class="curve {escape(name)}" points="{line}"/>')
        for step, value in dict.fromkeys((points[0], points[-1])):
            dot = f'cx="{axes.x(step):.1f}" cy="{axes.y(value):.1f}" r="4"'
            parts.append(f'<circle class="dot {escape(name)}" {dot}/>')
        text = f"{points[-1][1]:.3f}" + (f" {name}" if len(lines) > 1 else "")
        parts.append(_text(axes.right + 12, end + 5, text, "value"))
    return _svg(_CURVE_HEIGHT, parts, label)


@dataclass(frozen=True)
class _Axes:
    """From steps and values to places in the picture."""

    ticks: Sequence[float]
    first: int
    last: int
    right: float
    left: float = 60
    top: float = 14
    bottom: float = _CURVE_HEIGHT - 44

    @classmethod
    def around(cls, lines: Mapping[str, Sequence[tuple[int, float]]]) -> "_Axes":
        values = [value for points in lines.values() for _, value in points]
        steps = [step for points in lines.values() for step, _ in points]
        room_for_labels = 165 if len(lines) > 1 else 90
        ticks = _ticks(min(values), max(values))
        return cls(ticks, min(steps), max(steps), _WIDTH - room_for_labels)

    def x(self, step: float) -> float:
        share = (step - self.first) / max(1, self.last - self.first)
        return self.left + (self.right - self.left) * share

    def y(self, value: float) -> float:
        share = (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])
        return self.top + (self.bottom - self.top) * (1 - share)

    def grid(self) -> Iterator[str]:
        for tick in self.ticks:
            yield _line(self.left, self.y(tick), self.right, self.y(tick), "grid")
            yield _text(self.left - 10, self.y(tick) + 4, f"{tick:g}", "name")
        for step in _steps(self.first, self.last):
            yield _text(self.x(step), _CURVE_HEIGHT - 22, str(step), "tick")
        yield _text((self.left + self.right) / 2, _CURVE_HEIGHT - 4, "step", "tick")


def _apart(heights: Sequence[float]) -> list[float]:
    """Return the heights of labels, moved down where they would overlap."""
    placed: list[float] = []
    for height in sorted(heights):
        placed.append(max(height, placed[-1] + _TEXT_HEIGHT) if placed else height)
    order = sorted(range(len(heights)), key=heights.__getitem__)
    return [placed[order.index(number)] for number in range(len(heights))]


def _ticks(low: float, high: float) -> list[float]:
    """Return 3 to 7 round numbers from at most low to at least high."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= 5)
    start, end = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 10) for i in range(start, max(end, start + 1) + 1)]


def _steps(first: int, last: int) -> list[int]:
    """Return up to 6 steps for the labels of the axis, including the first and the last."""
    count = min(5, last - first)
    return [first + round(i * (last - first) / max(1, count)) for i in range(count + 1)]


def _svg(height: float, parts: Sequence[str], label: str) -> str:
    body = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(label)}">\n'
        f"{body}\n</svg>"
    )


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" '
        f'height="{height}" rx="3"/>'
    )
