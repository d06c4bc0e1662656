"""What the README tells to type, typed in its order by somebody who has just arrived."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.core.home import PROJECT
from tasks.core.process.ports import free_port
from tasks.core.serving.state.directory import state_directory
from tasks.core.serving.state.files import read_deployment
from tests.e2e.newcomer import Newcomer, Ran, newcomer
from tests.prefect_command import HANG_S

_GUARD_S = 4 * 3600  # all of it took eleven minutes on two busy cores
pytestmark = [pytest.mark.slow, pytest.mark.timeout(_GUARD_S)]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_TYPED = re.compile(r"^(?:\$ )?(?:kawan-usaha|prefect|make|source|export|pip) ", re.MULTILINE)
_COMMENT = re.compile(r"\s+#.*$")

NOT_RUN = {
    "make test": "it runs this test's own suite; CI runs it",
}
"""What stands in the README and is not typed here, and why."""

GPU = " --device cpu"
TYPED_WITH = {
    "kawan-usaha finetune edited data/conversation.json tuned": GPU,
    "kawan-usaha evaluate whole --against merged --report report.html": GPU,
    "kawan-usaha deploy whole": f"{GPU} --port {{port}}",
    "kawan-usaha chat mine --web": " --port 0",
    "make prefect-up": " PORT={prefect}",
}
"""What is added to a command: there is no GPU here, and no port is known to be free."""

UNTIL = {"kawan-usaha chat mine --web": "The page is at"}
"""What ends with Ctrl-C, and what it prints before."""

TELLS = {
    "make demo": ["deploy", "Question:", "Answer:", "What next?"],
    "kawan-usaha stop demo": ["demo: stopped"],
    "kawan-usaha recipe show mine.yaml": ["name: mine", "# default"],
    "kawan-usaha plan mine.yaml": ["merge", "finetune", "deploy"],
    "kawan-usaha rebuild mine.yaml": ["publish", "deploy"],
    "kawan-usaha rebuild mine.yaml --until edit": ["Cached"],
    "kawan-usaha rebuild mine.yaml --from finetune": ["Cached"],
    "kawan-usaha status": ["mine", "gelu"],
    "kawan-usaha store list": ["download-", "merge-", "edit-", "fuse-"],
    "kawan-usaha data check conversations.json": ["12 records: 12 kept"],
    "kawan-usaha data show conversations.json --record 7 --tokenizer huggyllama/llama-13b": [
        "tokens"
    ],
    "kawan-usaha plan kawan-usaha-13b --gpus 2xL4": ["L4"],
    "kawan-usaha inspect edited": ["gelu"],
    "kawan-usaha publish whole our-team/kawan-usaha": ["uploaded"],
    "kawan-usaha deploy whole": ["kawan-usaha chat"],
    "kawan-usaha logs mine": ["=="],
    "kawan-usaha rollback mine": ["answers at"],
    "kawan-usaha start mine": ["answers at"],
    "kawan-usaha stop mine": ["mine: stopped"],
    "kawan-usaha data review demo": ["1 waiting", "Apa itu NIB?"],
    "kawan-usaha learn demo": ["50 are needed"],
    'kawan-usaha data forget demo "6c6cb 5786f d4891 6cf41"': ["1 answer of this person deleted"],
}
"""What a command's output has to name."""

PERSON = "6c6cb5786fd48916cf41"
"""Whom the README forgets."""


@dataclass
class Followed:
    """Who followed the README, and what came of each command."""

    newcomer: Newcomer
    port: int = field(default_factory=free_port)
    prefect: int = field(default_factory=free_port)
    ran: dict[str, Ran] = field(default_factory=dict)
    states: list[State[Any]] = field(default_factory=list)

    def follow(self) -> None:
        """Type one command after the other, up to the first that fails."""
        for command in COMMANDS:
            if command in BY_HAND:
                BY_HAND[command](self)
            ran = self.newcomer.types(self.typed(command), until=UNTIL.get(command))
            self.ran[command] = ran
            if ran.code:
                return

    def typed(self, command: str) -> str:
        added = TYPED_WITH.get(command, "").format(port=self.port, prefect=self.prefect)
        return command.replace(":4200/", f":{self.prefect}/") + added

    def ask_and_agree(self) -> None:
        """Be the person who is forgotten in the end."""
        demo = read_deployment(state_directory(self.newcomer.home, "demo"))
        assert demo is not None, self.ran
        question = {
            "model": demo.settings.model_name,
            "messages": [{"role": "user", "content": "Apa itu NIB?"}],
            "max_tokens": 8,
            "store": True,
            "user": PERSON,
        }
        address = f"{demo.base_url}/chat/completions"
        httpx.post(address, json=question, timeout=HANG_S, trust_env=False).raise_for_status()

    def make_the_environment_again(self) -> None:
        assert not self.newcomer.venv.exists()
        self.newcomer.set_up()

    def edit_the_recipe(self) -> None:
        file = self.newcomer.checkout / "mine.yaml"
        text = file.read_text().replace("name: demo\n", "name: mine\n", 1)
        for port in re.findall(r"^ +port: (\d+)", text, re.MULTILINE):
            text = text.replace(f"port: {port}", f"port: {free_port()}")
        assert yaml.safe_load(text)["name"] == "mine"
        file.write_text(text)

    def bring_conversations(self) -> None:
        place = self.newcomer.checkout
        shutil.copy(place / "data" / "conversation.json", place / "conversations.json")

    def wait_for_the_run(self) -> None:
        """See how the run that was started ends, which `make prefect-down` would end."""
        api = f"http://127.0.0.1:{self.prefect}/api"
        with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
            states = [run.state for run in client.read_flow_runs()]
            while not all(state and state.is_final() for state in states):
                time.sleep(1)
                states = [run.state for run in client.read_flow_runs()]
        self.states = [state for state in states if state]


BY_HAND: dict[str, Callable[[Followed], None]] = {
    "kawan-usaha stop demo": Followed.ask_and_agree,
    "kawan-usaha recipe new mine.yaml --from demo --schema": Followed.make_the_environment_again,
    "kawan-usaha recipe show mine.yaml": Followed.edit_the_recipe,
    "kawan-usaha data check conversations.json": Followed.bring_conversations,
    "make prefect-down": Followed.wait_for_the_run,
}
"""What people do before a command without typing one."""


def blocks() -> list[tuple[str, str]]:
    return _BLOCK.findall((PROJECT / "README.md").read_text())


def written() -> list[str]:
    """Return the commands of the README in their order, without the comments."""
    lines = [line for kind, text in blocks() if kind == "sh" for line in text.splitlines()]
    return [_COMMENT.sub("", line) for line in lines if line.strip()]


COMMANDS = [command for command in written() if command not in NOT_RUN]


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    with newcomer(tmp_path_factory.mktemp("newcomer")) as somebody:
        made = Followed(somebody)
        made.follow()
        yield made


@pytest.mark.parametrize("command", COMMANDS)
def test_command_does_what_the_readme_says(followed: Followed, command: str) -> None:
    if command not in followed.ran:
        pytest.skip("an earlier command failed")
    ran = followed.ran[command]
    assert ran.code == 0, ran.output[-6000:]
    assert [each for each in TELLS.get(command, ()) if each not in ran.output] == [], ran.output


def test_the_run_that_prefect_was_told_to_start_is_completed(followed: Followed) -> None:
    assert [state.type.value for state in followed.states] == ["COMPLETED"], followed.states


def test_each_exception_and_each_addition_stands_in_the_readme() -> None:
    named = {*NOT_RUN, *TYPED_WITH, *UNTIL, *TELLS, *BY_HAND}
    assert sorted(named - set(written())) == []


def test_no_command_stands_in_a_block_of_another_kind() -> None:
    """It would be typed by a reader, and not by this test."""
    others = [text for kind, text in blocks() if kind != "sh"]
    assert [text for text in others if _TYPED.search(text)] == []
