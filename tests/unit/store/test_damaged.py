"""What takes the place of a part of an artifact is damage, whatever the system says of it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.errors import CorruptArtifact
from tasks.core.keys import stage_key
from tasks.core.store import Staging, Store

KEY = stage_key("merge", 1, {})


@pytest.mark.parametrize(
    ("replace", "found"),
    [
        (lambda place: place.write_text("a file"), "sub/c.bin cannot be read: Not a directory"),
        (lambda place: place.symlink_to(place), "sub/c.bin cannot be read: Too many levels"),
    ],
    ids=["file", "loop of links"],
)
def test_what_stands_in_place_of_a_directory_damages_the_artifact(
    tmp_path: Path, replace: Callable[[Path], object], found: str
) -> None:
    def below(staging: Staging) -> None:
        (staging.path / "sub").mkdir()
        (staging.path / "sub" / "c.bin").write_bytes(b"content")

    store = Store(tmp_path)
    place = store.build(KEY, below).artifact.path / "sub"
    shutil.rmtree(place)
    replace(place)
    assert store.verify()[str(KEY)][0].startswith(found)
    with pytest.raises(CorruptArtifact, match=found):
        store.find(KEY)
    assert not store.build(KEY, below).cached
