"""The proof that a published model loads: from its own bytes, and without a token."""

import json
import shutil
from pathlib import Path

import pytest

from tasks.core.errors import UploadCorrupt
from tests.hub_faults import WrongBytes
from tests.secrets import SESAME, spy_on_children
from tests.unit.hub.publish.world import WRITER, Build, PublishHub

PROBE = "load_probe"

pytestmark = pytest.mark.usefixtures("preforked_probe")

_CURIOUS = """
import json, os, huggingface_hub
from pathlib import Path

Path({told!r}).write_text(json.dumps([
    dict(os.environ), huggingface_hub.get_token(), str(Path.home()), os.getcwd(),
]))
"""


def test_code_that_was_published_is_run_without_a_token_and_without_a_home(
    hub: PublishHub, edited: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, told = shutil.copytree(edited.model, tmp_path / "model"), tmp_path / "told.json"
    code = model / "modeling_tiny_edited.py"
    code.write_text(_CURIOUS.format(told=str(told)) + code.read_text())
    spy = spy_on_children(tmp_path / "spy", monkeypatch)
    monkeypatch.setenv("HF_TOKEN", WRITER)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "token").write_text("hf_login")

    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))

    Build.of("curious", model).publish()

    environment, token, home, here = json.loads(told.read_text())
    assert token is None
    assert not [name for name, value in environment.items() if WRITER in value or SESAME in value]
    assert home == here != str(Path.home())
    (process,) = spy.of(PROBE)
    assert WRITER not in process and SESAME not in process


def test_code_whose_bytes_are_not_those_that_were_sent_is_not_run(
    hub: PublishHub, edited: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = spy_on_children(tmp_path / "spy", monkeypatch)
    monkeypatch.setenv("HF_TOKEN", WRITER)
    hub.faults.add(WrongBytes(), r"/resolve/.*/modeling_tiny_edited\.py", times=10**6)
    with pytest.raises(UploadCorrupt, match=r"modeling_tiny_edited\.py is of SHA-256"):
        edited.publish()
    assert spy.of(PROBE) == []
    assert hub.visible() == {}
