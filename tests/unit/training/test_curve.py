from pathlib import Path

import pytest

from tasks.core.training.curve import draw_loss_curve, loss_table
from tasks.core.training.job import LoggedStep, ValidatedStep


def steps(count: int) -> list[LoggedStep]:
    return [LoggedStep(step=i, loss=4.0 / i, learning_rate=1e-3) for i in range(1, count + 1)]


def test_the_same_steps_draw_the_same_picture_and_others_another(tmp_path: Path) -> None:
    one, same, other = (tmp_path / name for name in ("one.png", "same.png", "other.png"))
    draw_loss_curve(steps(5), one)
    draw_loss_curve(steps(5), same)
    draw_loss_curve(steps(6), other)
    assert one.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert one.read_bytes() == same.read_bytes() != other.read_bytes()


def test_a_short_training_is_shown_whole() -> None:
    assert loss_table(steps(2)).splitlines() == [
        "| step | loss | learning rate |",
        "|---:|---:|---:|",
        "| 1 | 4.0000 | 1.00e-03 |",
        "| 2 | 2.0000 | 1.00e-03 |",
    ]
    assert len(loss_table(steps(1)).splitlines()) == 3


def test_a_long_training_is_shown_by_twenty_steps_from_the_first_to_the_last() -> None:
    rows = loss_table(steps(1000)).splitlines()[2:]
    shown = [int(row.split("|")[1]) for row in rows]
    assert len(shown) == 20 == len(set(shown))
    assert (shown[0], shown[-1]) == (1, 1000)


@pytest.mark.parametrize(("logged", "validated"), [(0, 0), (0, 2), (1, 1), (3, 0)])
def test_a_curve_of_any_length_is_drawn_and_shown(
    tmp_path: Path, logged: int, validated: int
) -> None:
    validation = [ValidatedStep(step=i, loss=3.0) for i in range(1, validated + 1)]
    draw_loss_curve(steps(logged), tmp_path / "loss.png", validation)
    assert (tmp_path / "loss.png").stat().st_size
    rows = loss_table(steps(logged), validation).splitlines()[2:]
    assert len(rows) == max(logged, validated)


def test_the_validation_is_drawn_beside_the_training(tmp_path: Path) -> None:
    alone, both = tmp_path / "alone.png", tmp_path / "both.png"
    draw_loss_curve(steps(4), alone)
    draw_loss_curve(steps(4), both, [ValidatedStep(step=2, loss=1.0)])
    assert alone.read_bytes() != both.read_bytes()


def test_each_validation_is_in_the_table_at_its_step_even_if_it_was_not_logged() -> None:
    logged = [step for step in steps(4) if step.step != 2]
    validation = [ValidatedStep(step=2, loss=3.5), ValidatedStep(step=4, loss=None)]
    assert loss_table(logged, validation).splitlines() == [
        "| step | loss | validation loss | learning rate |",
        "|---:|---:|---:|---:|",
        "| 1 | 4.0000 |  | 1.00e-03 |",
        "| 2 |  | 3.5000 |  |",
        "| 3 | 1.3333 |  | 1.00e-03 |",
        "| 4 | 1.0000 | not finite | 1.00e-03 |",
    ]


def test_a_validation_between_two_shown_steps_shows_its_own_step() -> None:
    rows = loss_table(steps(1000), [ValidatedStep(step=7, loss=3.5)]).splitlines()[2:]
    assert len(rows) == 21
    assert "| 7 | 0.5714 | 3.5000 | 1.00e-03 |" in rows


def test_what_held_out_pairs_show_has_columns_of_its_own() -> None:
    pairs = ValidatedStep(step=2, loss=0.5, margin=0.25, preferred=0.8)
    head, _, *rows = loss_table(steps(2), [pairs]).splitlines()
    assert head == "| step | loss | validation loss | margin | as preferred | learning rate |"
    assert "| 0.5000 | 0.2500 | 80% |" in rows[1]


def test_a_loss_of_pairs_is_drawn_with_its_own_unit(tmp_path: Path) -> None:
    one, other = tmp_path / "a.png", tmp_path / "b.png"
    draw_loss_curve(steps(3), one)
    draw_loss_curve(steps(3), other, method="dpo")
    assert one.read_bytes() != other.read_bytes()
