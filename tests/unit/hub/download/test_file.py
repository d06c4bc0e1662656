"""One file of a download, without a Hub."""

from pathlib import Path
from threading import Event

import pytest

from tasks.core.hub.download.announced import HubFile
from tasks.core.hub.download.file import DownloadSession, DownloadStopped, FileDownload


def test_a_file_whose_download_is_stopped_keeps_what_has_arrived(tmp_path: Path) -> None:
    stop, arrived = Event(), list[int]()
    transfer = DownloadSession(tmp_path, {}, arrived.append, stop)
    download = FileDownload(HubFile("a.bin", 100, None, ""), "http://127.0.0.1:1/a.bin", transfer)
    (tmp_path / "a.bin.part").write_bytes(b"x" * 60)
    stop.set()
    with pytest.raises(DownloadStopped):
        download.run()
    assert (tmp_path / "a.bin.part").read_bytes() == b"x" * 60
    assert arrived == []
