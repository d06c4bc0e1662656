"""Commands that only look answer at once: none of the large libraries is loaded for any of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from flows import commands
from flows.cli import app
from flows.command_line.command_list import SUMMARIES
from tests.machines import record_speed

HEAVY = (
    *("torch", "transformers", "prefect", "peft", "deepspeed", "gradio", "fastapi", "openai"),
    *("model_signing", "sigstore", "matplotlib"),
)
COMMANDS = (
    *("--help", "rebuild --help", "status", "store list", "plan demo", "plan kawan-usaha-13b"),
    *("recipe schema", "recipe show demo"),
)

RUN = f"""
import atexit, sys
from flows import cli
atexit.register(lambda: print("loaded:", *(name for name in {HEAVY} if name in sys.modules)))
cli.main()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose machine was measured before, as it is but for the very first plan."""
    home = tmp_path_factory.mktemp("home")
    record_speed(home)
    return home


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_that_only_looks_loads_no_large_library(words: str, home: Path) -> None:
    env = {**os.environ, "KAWAN_USAHA_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", RUN, *words.split()],
        check=False,
        capture_output=True,
        text=True,
        env={name: value for name, value in env.items() if name != "PREFECT_API_URL"},
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "loaded:"


def test_the_flow_of_a_run_with_nothing_new_loads_no_large_library_but_prefect() -> None:
    heavy = sorted({*HEAVY} - {"prefect"})
    loaded = f"import sys, flows.lifecycle; print(*(n for n in {heavy} if n in sys.modules))"
    ended = subprocess.run(
        [sys.executable, "-c", loaded], check=True, capture_output=True, text=True
    )
    assert ended.stdout.strip() == ""


@pytest.mark.parametrize("command", SUMMARIES)
def test_the_list_says_of_a_command_what_it_says_of_itself(command: str) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    said = group.commands[command].help.partition("\n\n")[0]
    assert " ".join(said.split()) == SUMMARIES[command]


def test_every_module_of_a_command_is_listed() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    assert all(isinstance(each, TyperCommand | TyperGroup) for each in group.commands.values())
    modules = {each.stem for each in Path(commands.__file__).parent.glob("*.py")} - {"__init__"}
    parts_of_groups = {name for name in modules if name.startswith(("data_", "prefect_", "store_"))}
    assert modules - parts_of_groups == set(group.list_commands(None))  # type: ignore[arg-type]
