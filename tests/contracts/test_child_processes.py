"""Every process that is started gets an environment on purpose: no token comes along by default.

Python hands on the whole environment where a call does not say otherwise. So each call that starts
a process says it, and the whole of `os.environ` goes through `child_environment`; whoever does not
stands in a list here, with the reason.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.core.home import PROJECT
from tests.contracts.sources import dotted, nodes, sources

STARTS = {
    *("subprocess.Popen", "subprocess.run", "subprocess.call", "subprocess.check_call"),
    *("subprocess.check_output", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("os.system", "os.popen", "os.posix_spawn", "os.posix_spawnp", "os.startfile"),
    *(f"os.{kind}{how}" for kind in ("exec", "spawn") for how in ("l", "le", "lp", "lpe")),
    *(f"os.{kind}{how}" for kind in ("exec", "spawn") for how in ("v", "ve", "vp", "vpe")),
    *("asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell", "pty.spawn"),
    *("multiprocessing.Process", "multiprocessing.Pool", "ProcessPoolExecutor"),
    "torch.multiprocessing.spawn",
}
"""Names of the calls that start a process; with `run_child`, which is safe by default."""

WITH_ITS_OWN = {
    "tasks/core/process/guard.py": "a PATH, and nothing else",
    "tasks/core/process/child.py": "what its caller has made, by default child_environment's",
    "tasks/core/serving/supervision/supervisord.py": "what its two callers below have made",
    "tasks/core/serving/launch/revive.py": "child_environment's, a line above",
    "tasks/core/serving/engines/vllm_process.py": "its `server_environment` goes through it",
}
"""Modules whose calls pass an environment that `child_environment` has not made just there."""

WHOLE = {
    "tasks/core/training/launch/start.py": "`training_environment` goes through child_environment; "
    "`launch_command` reads CUDA_VISIBLE_DEVICES",
    "tasks/core/evaluation/evaluate.py": "its `_environment` goes through child_environment",
    "flows/actions/finetune.py": "`launch_command` reads CUDA_VISIBLE_DEVICES for a dry run",
    "tasks/core/serving/launch/steps.py": "marked_environment goes through child_environment",
    "tasks/core/serving/gateway/keys.py": "reads the keys",
    "tasks/core/serving/health/workers.py": "reads the keys of workers",
    "tasks/core/serving/engines/vllm.py": "reads where vLLM's Python is",
    "tasks/core/serving/engines/vllm_process.py": "`server_environment` goes through it",
    "flows/prefect_server/start_stop.py": "`process_environment` goes through it",
    "flows/actions/prefect_notices.py": "reads the addresses of notices",
}
"""Modules that hand on or read the whole of os.environ, beside calls of child_environment."""

EVERYTHING = {
    "flows/prefect_server/processes.py": "workers run whole recipes and need every token",
    "tasks/core/serving/launch/revive.py": "does the watch's work, with the keys that it was given",
    "tasks/core/serving/engines/vllm_process.py": "becomes the server: the same process by exec",
}
"""Modules that ask child_environment for secrets and all, with the reason."""


@dataclass(frozen=True)
class Found:
    """A place in the sources."""

    file: str
    line: int
    says: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.says}"


def starts(tree: ast.Module) -> Iterator[ast.Call]:
    for node in nodes(tree):
        if isinstance(node, ast.Call) and dotted(node.func) in STARTS:
            yield node


def environment_of(call: ast.Call) -> ast.expr | None:
    if ast.unparse(call.func).endswith("ve"):
        return call.args[-1]
    return next((each.value for each in call.keywords if each.arg == "env"), None)


def whole_environments(tree: ast.Module) -> Iterator[ast.Attribute]:
    """Yield each `os.environ` that is neither asked for one name nor given to the rule."""
    excused: set[ast.AST] = set()
    for node in nodes(tree):
        if isinstance(node, ast.Call) and dotted(node.func) == "child_environment":
            excused |= {*node.args}
        if isinstance(node, ast.Attribute) and node.attr in ("get", "pop", "setdefault", "update"):
            excused.add(node.value)
        if isinstance(node, ast.Subscript):
            excused.add(node.value)
        if isinstance(node, ast.Compare):
            excused |= {*node.comparators}
    for node in nodes(tree):
        if isinstance(node, ast.Attribute) and dotted(node) == "os.environ":
            yield from () if node in excused else (node,)


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    return sources()


def wrong_starts(trees: dict[str, ast.Module]) -> list[Found]:
    wrong = []
    for file, tree in trees.items():
        for call in starts(tree):
            given = environment_of(call)
            if given is None:
                wrong.append(Found(file, call.lineno, "hands on everything: it has no env"))
            elif "child_environment(" not in ast.unparse(given) and file not in WITH_ITS_OWN:
                wrong.append(Found(file, call.lineno, f"env={ast.unparse(given)}"))
    return wrong


def test_each_process_is_given_what_the_one_rule_leaves_of_the_environment(
    trees: dict[str, ast.Module],
) -> None:
    assert [str(found) for found in wrong_starts(trees)] == []


def test_the_whole_environment_goes_through_the_one_rule(trees: dict[str, ast.Module]) -> None:
    found = {
        file: [node.lineno for node in whole_environments(tree)] for file, tree in trees.items()
    }
    assert {file: lines for file, lines in found.items() if lines and file not in WHOLE} == {}


def ask_for_everything(tree: ast.Module) -> bool:
    calls = (node for node in nodes(tree) if isinstance(node, ast.Call))
    ours = (call for call in calls if dotted(call.func).endswith("child_environment"))
    asked = (ast.unparse(each) for call in ours for each in call.args[1:])
    return any(each in ("EVERYTHING", "environment.EVERYTHING", "'*'") for each in asked)


def test_only_these_children_get_every_secret(trees: dict[str, ast.Module]) -> None:
    assert {file for file, tree in trees.items() if ask_for_everything(tree)} == EVERYTHING.keys()


def test_no_exception_is_left_over(trees: dict[str, ast.Module]) -> None:
    assert [file for file in WHOLE if not any(whole_environments(trees[file]))] == []
    assert [file for file in WITH_ITS_OWN if not any(starts(trees[file]))] == []


@pytest.mark.parametrize(
    "wrong",
    [
        "subprocess.run(['ls'])",
        "subprocess.Popen(['ls'], env=os.environ)",
        "subprocess.Popen(['ls'], env={**os.environ, 'A': 'b'})",
        "os.system('ls')",
        "os.execv('/bin/ls', ['ls'])",
        "os.execve('/bin/ls', ['ls'], os.environ)",
    ],
)
def test_a_wrong_start_is_noticed(wrong: str) -> None:
    assert len(wrong_starts({"tasks/new.py": ast.parse(wrong)})) == 1


@pytest.mark.parametrize(
    "wrong",
    ["run_child(['ls'], env={**os.environ})", "own = dict(os.environ)", "f(env=os.environ)"],
)
def test_a_whole_environment_is_noticed(wrong: str) -> None:
    assert len(list(whole_environments(ast.parse(wrong)))) == 1


@pytest.mark.parametrize(
    "right", ["os.environ['A']", "'A' in os.environ", "child_environment(os.environ, 'A')"]
)
def test_what_reads_one_variable_or_obeys_the_rule_is_let_be(right: str) -> None:
    assert list(whole_environments(ast.parse(right))) == []


def test_the_sources_were_read(trees: dict[str, ast.Module]) -> None:
    assert Path(PROJECT, "tasks/core/process/crew.py").is_file()
    assert sum(len(list(starts(tree))) for tree in trees.values()) >= 8
