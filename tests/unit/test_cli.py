import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import cli
from tasks.core.keys import stage_key
from tasks.core.store import Staging, Store
from tests.models import tiny_delta, tiny_llama

COMMANDS = [
    *("download", "merge", "edit", "finetune", "fuse", "evaluate", "publish", "deploy", "chat"),
    *("rebuild", "plan", "store", "status", "stop", "restore"),
]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KAWAN_USAHA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def kawan_usaha(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, str]:
    """Run the console script in this process, as the shell does."""
    monkeypatch.setattr("sys.argv", ["kawan-usaha", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    output = capsys.readouterr()
    return int(ended.value.code or 0), output.out, output.err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *words: kawan_usaha(monkeypatch, capsys, *words)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    tiny_llama(root / "base", seed=1)
    tiny_delta(root / "base", tiny_llama(root / "target", seed=2), root / "delta")
    return root


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_teaches(command: str) -> None:
    result = CliRunner().invoke(cli.app, [command, "--help"])
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 5


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("rebuild", "dmeo"), "Did you mean demo"),
        (("rebuild", "demo", "--until", "lunch"), "evaluate"),
        (("plan", "kawan-usaha-13b", "--gpus", "2xL5"), "L4"),
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


def test_nothing_deployed_is_no_failure(run: Run) -> None:
    code, out, _ = run("status")
    assert (code, out.strip()) == (0, "Nothing is deployed.")


def test_status_shows_who_works_and_what_is_held(run: Run, home: Path) -> None:
    with Store(home, "rebuild demo").in_use():
        code, out, _ = run("status")
        _, plain, _ = run("status", "--json")
    assert code == 0
    assert out.startswith("rebuild demo: runs since ")
    assert "holds in-use since " in out
    assert out.rstrip().endswith("\n\nNothing is deployed.")
    (process,) = json.loads(plain)["running"]
    assert process["what"] == "rebuild demo"
    assert [each["lock"] for each in process["holds"]] == ["in-use"]
    assert json.loads(plain)["deployments"] == []
