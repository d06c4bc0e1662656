"""The planner against what others published or measured, deviation by deviation.

docs/planning.md shows the same tables. Each figure is computed here again, and the document must
hold exactly these numbers: a formula that changes without its table fails. What a new figure needs
stands in published/figures.yaml.
"""

import pytest

from tasks.core.planning.shape import LLAMA_13B
from tasks.core.planning.training_memory import pinned_weight_bytes
from tasks.core.recipe import Finetune
from tests.unit.planning.published.document import (
    DOCUMENT,
    OTHERS_MEMORY,
    OTHERS_TIME,
    all_tables,
    documented,
    lines_of,
    rewritten,
    said,
)
from tests.unit.planning.published.tables import GB, Table


@pytest.fixture(scope="module")
def tables() -> list[Table]:
    return all_tables()


def test_the_document_holds_each_figure_as_it_is_computed_now(tables):
    text = DOCUMENT.read_text(encoding="utf-8")
    assert rewritten(text, lines_of(tables)) == text, (
        "python -m tests.unit.planning.published.document writes the numbers of now"
    )


def test_the_document_holds_every_figure_and_none_that_no_test_computes(tables):
    assert documented(DOCUMENT.read_text(encoding="utf-8")) == set(lines_of(tables))


def test_no_figure_is_farther_off_than_its_table_allows(tables):
    far = {
        row.name: f"{row.deviation:+.0%}"
        for table in tables
        for row in table.rows
        if not table.within[0] <= row.deviation <= table.within[1]
    }
    assert far == {}


def test_the_document_says_how_near_the_plan_is_to_what_nothing_was_fitted_to(tables):
    assert {table.fitted for table in tables if table.name in OTHERS_MEMORY + OTHERS_TIME} == {""}
    assert said(tables) in DOCUMENT.read_text(encoding="utf-8")


def test_most_figures_are_of_those_that_nothing_was_fitted_to(tables):
    fitted = sum(len(table.rows) for table in tables if table.fitted)
    assert fitted < sum(len(table.rows) for table in tables) / 3


def test_the_document_says_what_pinning_costs():
    weights = LLAMA_13B.weight_bytes("bfloat16")
    for processes in (1, 2):
        asked = Finetune(processes=processes, zero_stage=3, offload="all")
        pinned = pinned_weight_bytes(LLAMA_13B, asked)
        words = f"{weights / GB:.1f} GB of a 13B model become {pinned / GB:.1f} GB"
        assert words in DOCUMENT.read_text(encoding="utf-8")
