from pathlib import Path

import pytest

from tests.command_line import Run, kawan_usaha


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own; relative paths are below tmp_path."""
    monkeypatch.setenv("KAWAN_USAHA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *words: kawan_usaha(monkeypatch, capsys, *map(str, words))
