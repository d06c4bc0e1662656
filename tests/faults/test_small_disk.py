"""Stages on a real file system that has room for a part of their result, and then for all of it.

What compiled libraries write (safetensors, torch) fails here as it does for a user. A read-only
file system is one of these, too.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from tasks.core.architecture.edit import edit_model
from tasks.core.conversation.prepared import prepare_examples
from tasks.core.errors import DiskFull
from tasks.core.keys import stage_key
from tasks.core.recipe import Finetune
from tasks.core.store import Staging, Store
from tasks.core.training.failures import StopReason, reason_of
from tasks.core.training.trainer.adapter_writing import write_adapter
from tasks.core.weights.fuse import fuse_adapter
from tasks.core.weights.merge import merge_delta
from tasks.explain import explained
from tests.faults.small_disk import PAGE_BYTES, SmallDisk, on_a_small_disk
from tests.faults.survey import files_in
from tests.models import tiny_llama, tiny_tokenizer
from tests.unit.architecture.conftest import GELU_IN_THE_LAST
from tests.unit.weights.adapters import train
from tests.unit.weights.models import base_model, delta_for

pytestmark = pytest.mark.slow

KEY = stage_key("merge", 1, {})
COMMAND = Path(sys.executable).with_name("kawan-usaha")
_ENOUGH_BYTES = 64 << 20
_SIZES = 8


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    base = base_model(root / "base")
    delta_for(base, root / "delta")
    train(base, root / "adapter", target_modules=["q_proj"])
    tiny_llama(root / "llama", layers=2)
    (root / "tokenizer").mkdir()
    tiny_tokenizer().save_pretrained(root / "tokenizer")
    return root


def _merge(models: Path, out: Path) -> None:
    merge_delta(models / "base", models / "delta", out, max_shard_bytes=30_000, threads=2)


def _edit(models: Path, out: Path) -> None:
    edit_model(models / "llama", GELU_IN_THE_LAST, out)


def _fuse(models: Path, out: Path) -> None:
    fuse_adapter(models / "base", models / "adapter", out, max_shard_bytes=30_000, threads=2)


def _prepare(models: Path, out: Path) -> None:
    data = Path(__file__).parents[2] / "data" / "conversation.json"
    settings = Finetune(validation_share=0.0, max_length_tokens=4096)
    prepare_examples(models / "tokenizer", data, settings, "vicuna_v1.1", out=out)


@pytest.mark.parametrize("stage", [_merge, _edit, _fuse, _prepare])
def test_a_stage_says_that_the_disk_is_full_and_goes_on_once_there_is_room(
    stage: Callable[[Path, Path], None], models: Path, tmp_path: Path
) -> None:
    def build(home: Path) -> object:
        def write(staging: Staging) -> None:
            stage(models, staging.path)

        return files_in(Store(home).build(KEY, write).artifact.path, "manifest.json")

    wanted = build(tmp_path / "roomy")
    taken = sum(path.stat().st_size for path in (tmp_path / "roomy").rglob("*") if path.is_file())

    def work(disk: SmallDisk) -> None:
        for size in range(PAGE_BYTES, taken, max(PAGE_BYTES, taken // _SIZES)):
            disk.format(size)
            with pytest.raises(DiskFull) as full:
                build(disk.path)
            assert str(disk.path) in str(full.value.where)
            assert full.value.next_step
            assert Store(disk.path).find(KEY) is None
            disk.resize(_ENOUGH_BYTES)
            assert build(disk.path) == wanted

    on_a_small_disk(tmp_path / "disk", work)


def _written_by_torch(models: Path, out: Path) -> None:
    out.mkdir(exist_ok=True)
    torch.save({"weights": torch.zeros(100_000)}, out / "optimizer.pt")


def _adapter(models: Path, out: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(models / "llama")
    adapted = get_peft_model(model, LoraConfig(r=64, target_modules="all-linear"))
    write_adapter(adapted, adapted.state_dict(), out)


@pytest.mark.parametrize("write", [_written_by_torch, _adapter])
def test_what_a_training_saves_fails_for_want_of_room_and_is_known_to(
    write: Callable[[Path, Path], None], models: Path, tmp_path: Path
) -> None:
    """torch and safetensors say so in a text of their own, without an error number."""

    def work(disk: SmallDisk) -> None:
        disk.format(16 * PAGE_BYTES)
        with pytest.raises(Exception) as full:
            write(models, disk.path / "out")
        assert reason_of(full.value) is StopReason.DISK_FULL, full.value
        assert isinstance(explained(full.value), DiskFull), full.value
        disk.resize(_ENOUGH_BYTES)
        write(models, disk.path / "out")

    on_a_small_disk(tmp_path / "disk", work)


@pytest.fixture(autouse=True)
def _prefect_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect's own directory is not on the small disk."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))


def _command(home: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(COMMAND), *map(str, words)],
        env={**os.environ, "KAWAN_USAHA_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_a_command_on_a_full_disk_says_so_and_the_next_one_goes_on(
    models: Path, tmp_path: Path
) -> None:
    def work(disk: SmallDisk) -> None:
        disk.format(24 * PAGE_BYTES)
        words = ("merge", models / "base", models / "delta", disk.path / "out")
        full = _command(tmp_path / "home", *words)
        assert full.returncode == 1
        assert full.stderr.startswith("kawan-usaha: There is not enough space on the disk.")
        assert str(disk.path) in full.stderr
        assert "Traceback" not in full.stderr
        disk.resize(_ENOUGH_BYTES)
        again = _command(tmp_path / "home", *words)
        assert again.returncode == 0, again.stderr

    on_a_small_disk(tmp_path / "disk", work)


@pytest.mark.parametrize(
    "words",
    [("store", "list"), ("status",)],
    ids=" ".join,
)
def test_what_only_looks_works_on_a_read_only_home(words: tuple[str, ...], tmp_path: Path) -> None:
    def work(disk: SmallDisk) -> None:
        disk.format(_ENOUGH_BYTES)
        Store(disk.path / "home").build(
            KEY, lambda staging: (staging.path / "weights").write_text("w")
        )
        disk.make_read_only()
        looked = _command(disk.path / "home", *words)
        assert "Traceback" not in looked.stderr
        assert looked.returncode == 0, looked.stderr
        if words == ("store", "list"):
            assert str(KEY) in looked.stdout

    on_a_small_disk(tmp_path / "disk", work)


@pytest.mark.parametrize("stage", ["merge", "store prune", "store verify"])
def test_what_writes_says_that_the_file_system_is_read_only(
    stage: str, models: Path, tmp_path: Path
) -> None:
    def work(disk: SmallDisk) -> None:
        disk.format(_ENOUGH_BYTES)
        home = disk.path / "home"
        Store(home).build(KEY, lambda staging: (staging.path / "weights").write_text("w"))
        disk.make_read_only()
        words = {
            "merge": ("merge", models / "base", models / "delta", disk.path / "out"),
            "store prune": ("store", "prune"),
            "store verify": ("store", "verify"),  # keeps others from removing what it reads
        }[stage]
        refused = _command(home, *words)
        assert refused.returncode in (1, 2), refused.stdout + refused.stderr
        assert "Traceback" not in refused.stderr
        assert "ead-only" in refused.stderr or "may not write" in refused.stderr, refused.stderr
        assert str(disk.path) in refused.stderr
        disk.resize(_ENOUGH_BYTES)
        again = _command(home, *words)
        assert again.returncode == 0, again.stderr

    on_a_small_disk(tmp_path / "disk", work)
