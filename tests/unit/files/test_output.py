from pathlib import Path

import pytest

from tasks.core.errors import UsageError
from tasks.core.files.output import WORK, staged_directory


def test_failed_block_leaves_no_output_and_keeps_its_progress(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(RuntimeError), staged_directory(out, "a work") as staging:
        (staging / "half").write_text("x")
        raise RuntimeError
    assert not out.exists()
    with staged_directory(out, "a work") as staging:
        assert (staging / "half").read_text() == "x"
    assert (out / "half").exists()
    assert not (tmp_path / "out.partial").exists()


def test_output_that_exists_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    with pytest.raises(UsageError, match="exists already"), staged_directory(tmp_path / "out", 1):
        pass
    assert (tmp_path / "out" / "precious").read_text() == "x"


def _leave_half(out: Path, work: object) -> Path:
    """Leave a staging directory of this work, as a kill does."""
    with pytest.raises(RuntimeError), staged_directory(out, work) as staging:
        (staging / "half").write_text("x")
        (staging / "code").mkdir()
        (staging / "code" / "modeling.py").write_text("x")
        raise RuntimeError
    return out.with_name(out.name + ".partial")


@pytest.mark.parametrize("named", [True, False])
def test_what_another_work_left_is_removed_first(tmp_path: Path, named: bool) -> None:
    left = _leave_half(tmp_path / "out", {"command": "download", "inputs": ["A"]})
    if not named:
        (left / WORK).unlink()
    with staged_directory(tmp_path / "out", {"command": "download", "inputs": ["B"]}) as staging:
        assert [path.name for path in staging.iterdir()] == [WORK]
        (staging / "whole").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]


def test_a_refusal_before_the_first_byte_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError), staged_directory(tmp_path / "out", 1) as staging:
        (staging / "empty").mkdir()
        raise UsageError("refused")
    assert list(tmp_path.iterdir()) == []


def test_work_that_begins_anew_each_time_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staged_directory(tmp_path / "o", 1, resumes=False) as staging:
        (staging / "unproven").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_emptying_removes_links_and_not_what_they_lead_to(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "link").symlink_to(precious)
    with staged_directory(tmp_path / "out", 1):
        pass
    assert (precious / "file").exists()


def test_a_link_or_a_file_in_the_staging_s_place_is_never_emptied(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (tmp_path / "a.partial").symlink_to(precious)
    (tmp_path / "b.partial").touch()
    for name in ("a", "b"):
        with (
            pytest.raises(UsageError, match="its name is taken"),
            staged_directory(tmp_path / name, 1),
        ):
            pass
    assert (precious / "file").exists()


def test_an_output_below_a_file_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "out", tmp_path / "file" / "deep" / "out", Path("/proc/out")):
        with pytest.raises(UsageError, match="cannot be created"), staged_directory(out, 1):
            pass
