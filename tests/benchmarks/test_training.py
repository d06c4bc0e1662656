import pytest

from tests.benchmarks.bench_training import useful_tokens_per_s

STEPS = "@step 1 100.0\nsaid between\n@step 2 110.0\n@step 4 130.0\n@tokens 4000\n"


def test_the_first_step_is_neither_in_the_time_nor_in_the_tokens():
    assert useful_tokens_per_s(STEPS) == pytest.approx(3 * 1000 / 30)


def test_a_first_step_of_longer_rows_takes_no_more_than_its_own_tokens_away():
    assert useful_tokens_per_s("@first 2500\n" + STEPS) == pytest.approx(1500 / 30)
