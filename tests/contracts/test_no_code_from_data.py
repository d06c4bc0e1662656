"""Nothing that others wrote becomes code by being read; where a model's code is run is listed here.

ruff's rules (S301 pickle, S302 marshal, S307 eval, S102 exec, S506 yaml) see the usual ways. What
they do not know is held here: how torch and numpy read files, and who trusts a model's code.
"""

import ast
import tomllib
from collections.abc import Iterator

import pytest

from tasks.core.home import PROJECT
from tests.contracts.sources import dotted, nodes, sources

UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN = {
    *("torch.jit.load", "torch.hub.load", "torch.package.PackageImporter"),
    *("pandas.read_pickle", "pd.read_pickle", "numpy.fromregex", "runpy.run_path"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "jsonpickle.decode"),
}
FOR_ITS_ERROR = {"tasks/core/weights/torch_bin.py"}
"""Imports pickle for UnpicklingError, which torch's restricted unpickler raises."""

TRUSTS = {
    "tasks/core/architecture/take_edit_fingerprint.py": "the proof's process",
    "tasks/core/architecture/proof/observe.py": "the proof's process",
    "tasks/core/architecture/proof/whole_model.py": "the proof's process",
    "tasks/core/evaluation/vocabulary.py": "the measuring process",
    "tasks/core/evaluation/loading.py": "the measuring process",
    "tasks/core/evaluation/benchmarks.py": "an argument of lm-eval's process",
    "tasks/core/training/model/base_model.py": "the training processes",
    "tasks/core/serving/engines/transformers_process.py": "an engine's process",
    "tasks/core/hub/publish/to_hub/load_probe.py": "the process that looks at what was published",
}
"""Who runs a model's code: processes that `child_environment` leaves no secret, on directories that
`model_check` has found to name no code of another place, and whose code `download_source` has found
to be agreed to."""

OURS_ALONE = {
    "tasks/core/conversation/tokenizer/load.py": "only after brings_only_our_code",
}
LOADS_A_FILE = {
    "tasks/core/hub/publish/to_hub/load_probe.py": "the process that looks at what was published"
}


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    return sources()


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    for node in nodes(tree):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


def says(call: ast.Call, keyword: str) -> str | None:
    """Return what a call passes under a keyword, as source."""
    return next((ast.unparse(each.value) for each in call.keywords if each.arg == keyword), None)


def imports(tree: ast.Module) -> Iterator[str]:
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def unsafe_reads(tree: ast.Module) -> Iterator[str]:
    for name, call in calls(tree):
        if name == "torch.load" and says(call, "weights_only") != "True":
            yield f"line {call.lineno}: torch.load without weights_only=True"
        if name in ("np.load", "numpy.load") and says(call, "allow_pickle") not in (None, "False"):
            yield f"line {call.lineno}: {name} with allow_pickle"
        if name in FORBIDDEN:
            yield f"line {call.lineno}: {name}"
    for node in nodes(tree):
        if isinstance(node, ast.Attribute) and dotted(node) == "pickle.Unpickler":
            yield f"line {node.lineno}: pickle.Unpickler"


def trusting(tree: ast.Module) -> Iterator[int]:
    """Yield the lines that hand trust_remote_code to a loader, but for a literal False.

    Or to ours, as `code="any"`.
    """
    for node in nodes(tree):
        if isinstance(node, ast.keyword) and node.arg == "code":
            yield from (node.value.lineno,) if ast.unparse(node.value) == "'any'" else ()
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            yield from () if ast.unparse(node.value) == "False" else (node.value.lineno,)
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                is_it = isinstance(key, ast.Constant) and key.value == "trust_remote_code"
                yield from (value.lineno,) if is_it else ()


def test_nothing_is_read_that_could_run(trees: dict[str, ast.Module]) -> None:
    wrong = {file: list(unsafe_reads(tree)) for file, tree in trees.items()}
    assert {file: lines for file, lines in wrong.items() if lines} == {}


def test_nobody_imports_what_unpickles(trees: dict[str, ast.Module]) -> None:
    found = {file for file, tree in trees.items() if UNPICKLERS & {*imports(tree)}}
    assert found == FOR_ITS_ERROR


def test_whoever_trusts_a_models_code_is_known(trees: dict[str, ast.Module]) -> None:
    found = {file for file, tree in trees.items() if any(trusting(tree))}
    assert found == TRUSTS.keys() | OURS_ALONE.keys()


def test_whoever_loads_a_file_as_code_is_known(trees: dict[str, ast.Module]) -> None:
    loaders = {"get_class_from_dynamic_module", "spec_from_file_location", "exec_module"}
    found = {
        file
        for file, tree in trees.items()
        if any(name.rpartition(".")[2] in loaders for name, _ in calls(tree))
    }
    assert found == LOADS_A_FILE.keys()


def test_no_command_and_no_flow_runs_a_models_code_by_itself(
    trees: dict[str, ast.Module],
) -> None:
    assert [f for f, t in trees.items() if f.startswith("flows/") and any(trusting(t))] == []


def test_ruffs_rules_for_the_usual_ways_are_on_and_nobody_is_excused(
    trees: dict[str, ast.Module],
) -> None:
    lint = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    rules = {"S301", "S302", "S307", "S102", "S506"}
    assert "S" in lint["select"]
    assert not rules & {*lint["ignore"]}
    excused = [f for f in trees if any(rule in (PROJECT / f).read_text() for rule in rules)]
    assert excused == []


@pytest.mark.parametrize(
    "wrong",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)",
        "np.load(path, allow_pickle=True)",
        "pickle.Unpickler(file).load()",
        "yaml.load(text)",
    ],
)
def test_a_wrong_read_is_noticed(wrong: str) -> None:
    assert len(list(unsafe_reads(ast.parse(wrong)))) == 1


@pytest.mark.parametrize(
    "wrong",
    ["load(m, trust_remote_code=True)", "f(**{'trust_remote_code': t})", "load(m, code='any')"],
)
def test_trust_is_noticed(wrong: str) -> None:
    assert len(list(trusting(ast.parse(wrong)))) == 1
