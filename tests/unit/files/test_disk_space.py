from pathlib import Path

import pytest

from tasks.core.errors import DiskFull
from tasks.core.files.disk_space import free_bytes, require_disk_space


def test_too_little_room_is_told_with_figures(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match=r"expected: .* GB\n  found: .* GB free"):
        require_disk_space(tmp_path / "not" / "yet" / "there", free_bytes(tmp_path) * 2)
