from pathlib import Path

from tasks.core.training.curve import draw_loss_curve, loss_table
from tasks.core.training.job import LoggedStep


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
