import errno
import json
import signal
from pathlib import Path

import pytest

from flows import cli
from tasks.core.keys import stage_key
from tasks.core.process.stopping import StopDeadline, Stopped
from tasks.core.store import Staging, Store
from tests.command_line import Run
from tests.models import tiny_delta, tiny_llama

pytestmark = pytest.mark.usefixtures("home", "preforked_children")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    tiny_llama(root / "base", seed=1)
    tiny_delta(root / "base", tiny_llama(root / "target", seed=2), root / "delta")
    return root


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("rebuild", "dmeo"), "Did you mean demo"),
        (("rebuild", "demo", "--until", "lunch"), "evaluate"),
        (("rebuild", "demo", "--from", "lunch"), "finetune"),
        (("plan", "kawan-usaha-13b", "--gpus", "2xL5"), "L4"),
        (("rebuild", "demo", "--set", "finetune.epoch=2"), "Did you mean epochs"),
        (("plan", "demo", "--set", "finetune"), "field=value"),
        (("merge", "nowhere at all", "delta", "out"), "Check the path"),
        (("merge", "base", "delta", "out", "--dtype", "int3"), "float16"),
        (("edit", "nowhere at all", "out", "--activation", "gelu"), "Check the path"),
        (("edit", "base", "out", "--layers", "1-3"), "slice"),
        (("edit", "base", "out"), "no edit is named"),
        (("stop", "nobody"), "one of: none"),
        (("publish", "base"), "Name the place"),
        (("chat",), "rebuild demo"),
        (("frobnicate",), "No such command"),
        (("merge",), "Missing argument"),
    ],
)
def test_wrong_usage_is_answered_with_advice_and_exit_code_2(
    run: Run, models: Path, tmp_path: Path, words: tuple[str, ...], advice: str
) -> None:
    for name in ("base", "delta"):
        (tmp_path / name).symlink_to(models / name)
    found, out, err = run(*words)
    assert found == 2
    assert advice in err
    assert "Traceback" not in out + err
    assert not (tmp_path / "out").exists()


def test_failure_has_exit_code_1_and_leaves_no_output(
    run: Run, models: Path, tmp_path: Path
) -> None:
    wide = tiny_llama(tmp_path / "wide", hidden=64)
    code, _, err = run("merge", str(wide), str(models / "delta"), str(tmp_path / "out"))
    assert code == 1
    assert "expected:" in err
    assert "next step:" in err
    assert not (tmp_path / "out").exists()


def test_error_is_json_for_a_program(run: Run, models: Path) -> None:
    code, out, _ = run("edit", str(models / "base"), "out", "--activation", "gelo", "--json")
    told = json.loads(out)
    assert code == 2
    assert told["error"] == "RecipeError"
    assert "next_step" in told


def test_output_that_exists_is_not_touched(run: Run, models: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    code, _, err = run("merge", str(models / "base"), str(models / "delta"), "out")
    assert code == 2
    assert "exists already" in err
    assert (tmp_path / "out" / "precious").exists()


def test_merge_edit_inspect_and_publish_work_on_plain_directories(
    run: Run, models: Path, tmp_path: Path
) -> None:
    code, out, _ = run("merge", str(models / "base"), str(models / "delta"), "merged", "--json")
    assert code == 0
    assert "model.safetensors" in "".join(json.loads(out)["files"])

    code, out, _ = run("edit", "merged", "edited", "--activation", "gelu", "--layers", "-1")
    assert code == 0
    assert "gelu" in out.lower()

    code, out, _ = run("inspect", "edited")
    assert code == 0
    assert "edit: alive" in out

    code, out, _ = run("publish", "edited", f"file://{tmp_path}/place", "--json")
    assert code == 0
    first = json.loads(out)
    assert first["sent"]
    code, out, _ = run("publish", "edited", f"file://{tmp_path}/place", "--json")
    assert json.loads(out)["sent"] == []
    code, out, _ = run("publish", f"file://{tmp_path}/place", "--rollback", first["tag"])
    assert code == 0


@pytest.mark.parametrize(
    ("card", "refusal"),
    [
        ("license: mit\nbase_model: huggyllama/llama-13b", "licence that the weights do not have"),
        ("tags: [id]", "Nothing says where the weights come from"),
    ],
)
def test_weights_that_may_not_become_public_do_not(
    run: Run, tmp_path: Path, card: str, refusal: str
) -> None:
    (tiny_llama(tmp_path / "m", layers=1) / "README.md").write_text(f"---\n{card}\n---\n")
    place = f"file://{tmp_path}/place"
    code, _, err = run("publish", "m", place, "--public", "--license", "mit")
    assert code == 2
    assert refusal in err
    assert not (tmp_path / "place").exists()


def test_publish_says_what_it_leaves_out_and_keeps_the_origin_in_the_card(
    run: Run, tmp_path: Path
) -> None:
    card = "license: apache-2.0\nbase_model: some/base"
    (tiny_llama(tmp_path / "m", layers=1) / "README.md").write_text(f"---\n{card}\n---\n")
    (tmp_path / "m" / "hf_token.txt").write_text("hf_x")
    words = ("--public", "--license", "apache-2.0")
    code, out, _ = run("publish", "m", f"file://{tmp_path}/place", *words)
    assert code == 0
    assert "left out: hf_token.txt (its name looks like that of a secret)" in out
    (published,) = (tmp_path / "place" / "builds").iterdir()
    assert "base_model:\n- some/base" in (published / "README.md").read_text()
    assert "hf_token" not in (published / "README.md").read_text()


def test_plan_is_json_and_needs_no_network(run: Run) -> None:
    code, out, _ = run("plan", "kawan-usaha-13b", "--gpus", "1xRTX4090", "--json")
    assert code == 0
    assert json.loads(out)["verdict"]


def test_store_shows_verifies_and_prunes(run: Run, home: Path) -> None:
    def write(staging: Staging) -> None:
        (staging.path / "a").write_text("weights")

    key = stage_key("merge", 1, {})
    artifact = Store(home).build(key, write).artifact
    assert str(key) in run("store", "list")[1]
    assert run("store", "verify")[0] == 0
    (artifact.path / "a").chmod(0o644)
    (artifact.path / "a").write_text("WEIGHTS")
    code, out, _ = run("store", "verify")
    assert code == 1
    assert "other bytes" in out
    assert str(key) in run("store", "prune", "--dry-run")[1]
    assert artifact.path.exists()
    assert run("store", "prune")[0] == 0
    assert not artifact.path.exists()


def test_prune_keeps_unfinished_work_and_removes_it_when_asked(run: Run, home: Path) -> None:
    def boom(staging: Staging) -> None:
        (staging.path / "checkpoint").write_text("state")
        raise ZeroDivisionError

    key = stage_key("finetune", 1, {})
    with pytest.raises(ZeroDivisionError):
        Store(home).build(key, boom)
    code, out, _ = run("store", "prune")
    assert code == 0
    assert "Nothing to remove." in out
    assert "`--unfinished` removes it too" in out
    assert str(key) in out
    code, out, _ = run("store", "prune", "--unfinished", "--json")
    assert code == 0
    (removed,) = json.loads(out)["removed"]
    assert (removed["name"], removed["kind"]) == (str(key), "unfinished work")
    assert not (home / "store" / ".staging" / str(key)).exists()


def test_nothing_deployed_is_no_failure(run: Run) -> None:
    code, out, _ = run("status")
    assert (code, out.strip()) == (0, "Nothing is deployed.")


def test_status_shows_who_works_and_what_is_held(run: Run, home: Path) -> None:
    with Store(home, "rebuild demo").in_use():
        code, out, _ = run("status")
        _, plain, _ = run("status", "--json")
    assert code == 0
    assert out.startswith("rebuild demo: running since ")
    assert "holds in-use since " in out
    assert out.rstrip().endswith("\n\nNothing is deployed.")
    (process,) = json.loads(plain)["running"]
    assert process["what"] == "rebuild demo"
    assert [each["lock"] for each in process["holds"]] == ["in-use"]
    assert json.loads(plain)["deployments"] == []


def test_a_stop_stays_a_stop_when_cleaning_up_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(**_: object) -> None:
        try:
            raise Stopped(signal.SIGTERM)
        finally:
            raise OSError("the disk is gone")

    monkeypatch.setattr(cli, "app", stopped)
    watch = StopDeadline()
    assert cli._run(watch) == 143
    assert watch.for_good
    told = capsys.readouterr().err
    assert "stopped by SIGTERM. Cleaning up failed (OSError('the disk is gone'))." in told
    assert "resumes" in told


def test_a_stop_stays_a_stop_when_nobody_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(**_: object) -> None:
        raise Stopped(signal.SIGHUP)

    def ended(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "the terminal has ended")

    monkeypatch.setattr(cli, "app", stopped)
    monkeypatch.setattr(cli.typer, "echo", ended)
    assert cli._run(StopDeadline()) == 129


def test_a_stop_while_an_error_is_told_is_a_stop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(**_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    def stopped(_: object) -> int:
        raise Stopped(signal.SIGINT)

    monkeypatch.setattr(cli, "app", fails)
    monkeypatch.setattr(cli, "report_error", stopped)
    watch = StopDeadline()
    assert cli._run(watch) == 130
    assert watch.for_good
    assert "stopped by SIGINT" in capsys.readouterr().err
