import errno
import os
from pathlib import Path

import pytest

from tasks.core.files.listing import matching, paths_below
from tests.faults.injector import FAILING_DISK, LOST_PERMISSION, Fault, disturbed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a/one.json", "b/two.json", "b/.hidden", "c/d/three.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "to").symlink_to(tmp_path / "b")
    return tmp_path


@pytest.mark.parametrize("fault", [LOST_PERMISSION, FAILING_DISK], ids=["right", "disk"])
def test_a_directory_that_cannot_be_listed_is_an_error(root: Path, fault: Fault) -> None:
    with disturbed(root.parent, fault) as calls:
        paths_below(root)
    listings = [number for number, call in enumerate(calls.seen) if call.startswith("scandir")]
    assert len(listings) == 5
    for number in listings:
        with disturbed(root.parent, fault, number), pytest.raises(OSError, match="Errno"):
            paths_below(root)
    with disturbed(root.parent, fault, 0), pytest.raises(OSError, match="Errno"):
        matching(root, "*")


def test_all_is_there_in_order_and_links_are_not_entered(root: Path) -> None:
    found = [str(path.relative_to(root)) for path in paths_below(root)]
    assert found == [
        "a",
        "a/one.json",
        "b",
        "b/.hidden",
        "b/two.json",
        "c",
        "c/d",
        "c/d/three.json",
        "to",
    ]


def test_patterns_reach_as_far_as_they_say(root: Path) -> None:
    assert matching(root, "*/*.json") == [
        root / "a/one.json",
        root / "b/two.json",
        root / "to/two.json",
    ]
    assert matching(root / "a" / "one.json", "*") == matching(root / "nowhere", "*") == []


def test_what_goes_meanwhile_is_not_there(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def gone(path: str) -> object:
        if str(path).endswith("/c"):
            raise FileNotFoundError(errno.ENOENT, "gone", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", gone)
    assert root / "c" / "d" not in paths_below(root)
    assert root / "b" / "two.json" in paths_below(root)
