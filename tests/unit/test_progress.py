import threading

import pytest

from tasks.core.progress import Lines, progress_line, quantity

GB = 10**9


class Shown:
    """What a listener showed, and the clock that it looks at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, unit: str = "bytes") -> None:
        self.now, self.lines = 0.0, list[str]()
        monkeypatch.setattr("tasks.core.progress.time.monotonic", lambda: self.now)
        self.report = Lines(
            lambda _done, _total, line: self.lines.append(line), unit=unit, every_s=2.0
        )

    def at(self, now: float, done: int, total: int) -> None:
        self.now = now
        self.report(done, total)


def test_a_stage_that_is_done_at_once_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch)
    for _ in range(141):
        shown.at(0.5, 4000, 4000)
    assert shown.lines == []


def test_the_end_is_shown_once_however_often_it_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = Shown(monkeypatch)
    shown.at(0.0, 0, 4 * GB)
    shown.at(2.0, GB, 4 * GB)
    for second in range(3, 30):
        shown.at(float(second), 4 * GB, 4 * GB)
    assert shown.lines == [
        "25%, 1.00 of 4.00 GB, 500 MB/s, 0:00:06 left",
        "100%, 4.00 GB, 1.33 GB/s, took 3.0 s",
    ]


def test_lines_keep_their_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch)
    for tenth in range(100):
        shown.at(tenth / 10, tenth, 1000)
    assert len(shown.lines) == 4


def test_what_an_earlier_attempt_did_is_not_in_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch)
    shown.at(1.0, 3 * GB, 4 * GB)
    shown.at(3.0, 3 * GB + 500_000_000, 4 * GB)
    assert shown.lines == ["87%, 3.50 of 4.00 GB, 250 MB/s, 0:00:02 left"]


def test_reports_of_many_threads_make_one_end(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch)
    shown.at(0.0, 0, 8)
    shown.at(2.0, 1, 8)
    threads = [threading.Thread(target=shown.report, args=(8, 8)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(shown.lines) == 2


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (5_120, "5.12 kB"),
        (15_360, "15.4 kB"),
        (141_000, "141 kB"),
        (97_500_000, "97.5 MB"),
        (6_850_000_000, "6.85 GB"),
        (26_000_000_000_000, "26.0 TB"),
    ],
)
def test_an_amount_of_bytes_has_the_unit_that_fits(amount: int, text: str) -> None:
    assert quantity(amount) == text


def test_work_is_counted_in_its_own_unit() -> None:
    line = progress_line(3, 12, 0.5, 6.0, "steps")
    assert line == "25%, 3 of 12 steps, 0.50 steps/s, 0:00:18 left"
    assert progress_line(1200, 4800, 0.0, 6.0, "conversations") == (
        "25%, 1,200 of 4,800 conversations"
    )


def test_only_what_is_done_is_a_hundred_percent() -> None:
    assert progress_line(999, 1000, 0.0, 1.0, "steps").startswith("99%")
