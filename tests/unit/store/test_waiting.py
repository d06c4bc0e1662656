"""A process that waits for another's lock: whom it is shown, and where that is told."""

import sys
from pathlib import Path

import pytest

from tasks.core.errors import LockBusy
from tasks.core.keys import stage_key
from tasks.core.store import Staging, Store

KEY = stage_key("merge", 1, {})


def never(_: Staging) -> None:
    pytest.fail("it is written although another process writes it")


def test_builder_that_waits_too_long_says_for_whom(tmp_path: Path) -> None:
    store = Store(tmp_path, "rebuild demo")

    def slow(_: Staging) -> None:
        with pytest.raises(LockBusy, match="held by rebuild demo: merge"):
            store.build(KEY, never, wait_s=0.2)

    store.build(KEY, slow)


def test_builder_without_a_purpose_is_known_by_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/kawan-usaha", "rebuild", "demo.yaml"])
    store = Store(tmp_path)

    def slow(_: Staging) -> None:
        with pytest.raises(LockBusy, match="held by kawan-usaha rebuild: merge "):
            store.build(KEY, never, wait_s=0.0)

    store.build(KEY, slow)


@pytest.mark.parametrize("apart", [False, True])
def test_waiting_is_told_among_the_other_lines_unless_it_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    monkeypatch.setattr("tasks.core.files.locks._SAY_AFTER_S", 0.0)
    said: list[str] = []
    waited: list[str] = []
    store = Store(tmp_path, say=said.append, waits=waited.append if apart else None)

    def slow(_: Staging) -> None:
        with pytest.raises(LockBusy):
            store.build(KEY, never, wait_s=0.2)

    store.build(KEY, slow)
    (line,) = waited if apart else said
    assert line.startswith("Waiting for merge-")
    assert not (said if apart else waited)
