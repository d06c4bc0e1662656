"""The pictures of the report, as SVG that stands inside the page. Colours come from its style.

Covers bars that start at nought and lines over steps; nothing here knows models or stages.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

from tasks.core.evaluation.numbers import number

_WIDTH = 880
_TEXT_HEIGHT = 17
_OFF_THE_SCALE = 10.0
"""A bar longer than this many times the shortest would leave nothing of the others to see."""


def bars(values: Sequence[tuple[str, float]]) -> str:
    """Return horizontal bars, on a linear scale that starts at nought.

    A bar that is off the scale, or no finite number, reaches the edge and is cut by a gap.
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
    """Return lines over steps, each with its last value written out, and its name if there are two.

    At least one line of at least one point; all values are finite.
    """
    left, right, top, bottom, height = 60, 165 if len(lines) > 1 else 90, 14, 44, 280
    values = [value for points in lines.values() for _, value in points]
    at = [step for points in lines.values() for step, _ in points]
    ticks, first, last = _ticks(min(values), max(values)), min(at), max(at)

    def x(step: float) -> float:
        return left + (_WIDTH - left - right) * (step - first) / max(1, last - first)

    def y(value: float) -> float:
        share = (value - ticks[0]) / (ticks[-1] - ticks[0])
        return top + (height - top - bottom) * (1 - share)

    parts = []
    for tick in ticks:
        parts.append(_line(left, y(tick), _WIDTH - right, y(tick), "grid"))
        parts.append(_text(left - 10, y(tick) + 4, f"{tick:g}", "name"))
    for step in _steps(first, last):
        parts.append(_text(x(step), height - 22, str(step), "tick"))
    parts.append(_text((left + _WIDTH - right) / 2, height - 4, "step", "tick"))
    ends = _apart([y(points[-1][1]) for points in lines.values()])
    for (name, points), end in zip(lines.items(), ends, strict=True):
        line = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
        parts.append(f'<polyline class="curve {escape(name)}" points="{line}"/>')
        for step, value in dict.fromkeys((points[0], points[-1])):
            dot = f'cx="{x(step):.1f}" cy="{y(value):.1f}" r="4"'
            parts.append(f'<circle class="dot {escape(name)}" {dot}/>')
        text = f"{points[-1][1]:.3f}" + (f" {name}" if len(lines) > 1 else "")
        parts.append(_text(_WIDTH - right + 12, end + 5, text, "value"))
    return _svg(height, parts, label)


def _apart(heights: Sequence[float]) -> list[float]:
    """Return the heights of texts, moved down where one would be written over another."""
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
    """Return up to 6 steps to write under the axis, the first and the last among them."""
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
