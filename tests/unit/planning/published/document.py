"""What docs/planning.md shows of the figures: one line a figure, and one line a table.

`python -m tests.unit.planning.published.document` writes the numbers that are computed now into it.
"""

import re
from pathlib import Path

from tests.unit.planning.published.measured import measured_tables
from tests.unit.planning.published.tables import Row, Table, written_tables

DOCUMENT = Path(__file__).parents[4] / "docs" / "planning.md"
OTHERS_MEMORY = (
    "Qwen's memory, LoRA",
    "Qwen's memory, Q-LoRA",
    "Several GPUs, memory of one",
    "IBM's memory",
    "LitGPT's memory",
)
OTHERS_TIME = ("Other sizes of Qwen, time", "Other models and cards, speed")
"""Measurements of training that nothing was fitted to, by their tables."""
_LINE = re.compile(r"^\| (?P<name>[^|]+?) \|(?P<rest>.*)\|$", re.MULTILINE)


def all_tables() -> list[Table]:
    """Return every table of figures, computed now."""
    return [*written_tables(), *measured_tables()]


def lines_of(tables: list[Table]) -> dict[str, str]:
    """Return the line of each figure and of each table, by the name in its first cell."""
    rows = {row.name: _figure(row) for table in tables for row in table.rows}
    return rows | {table.name: _summary(table) for table in tables}


def documented(text: str) -> set[str]:
    """Return the names of all lines that end with a percentage: those of figures and tables."""
    return {line["name"] for line in _LINE.finditer(text) if line["rest"].rstrip().endswith("%")}


def rewritten(text: str, lines: dict[str, str]) -> str:
    """Return the document with the numbers of these lines."""
    return _LINE.sub(lambda line: lines.get(line["name"], line[0]), text)


def said(tables: list[Table]) -> str:
    """Return what the document says of the measurements that nothing was fitted to."""
    memory, time = (
        max(abs(row.deviation) for table in tables if table.name in names for row in table.rows)
        for names in (OTHERS_MEMORY, OTHERS_TIME)
    )
    return f"memory was planned within {memory:.0%} and time within {time:.0%}"


def _figure(row: Row) -> str:
    cells = (row.name, _number(row.published), _number(row.computed), _percent(row.deviation))
    return f"| {' | '.join(cells)} |"


def _summary(table: Table) -> str:
    off = [row.deviation for row in table.rows]
    cells = (table.name, str(len(off)), table.fitted or "nothing", _percent(min(off)))
    return f"| {' | '.join(cells)} | {_percent(max(off))} |"


def _percent(share: float) -> str:
    return f"{round(share * 100):+d}%"


def _number(value: float) -> str:
    """Return three digits, in GB where that is readable and in MB below."""
    if value >= 1000:
        return f"{value:.0f}"
    if value < 0.1:
        return f"{value * 1000:.3g} MB"
    return f"{value:.3g}"


if __name__ == "__main__":
    now = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(rewritten(now, lines_of(all_tables())), encoding="utf-8")
