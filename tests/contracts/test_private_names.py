"""Names that a library does not promise are used through one module each, which names them all."""

import ast
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from tests.contracts.sources import sources

ROOT = Path(__file__).parents[2]
USED_THROUGH = "tasks/core/hub/private_api.py"
PROMISED = {"huggingface_hub", "huggingface_hub.errors", "huggingface_hub.hf_api"}


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def test_a_name_that_is_not_promised_is_imported_in_one_place_alone():
    found = {
        f"{path}: {module}"
        for path, tree in sources().items()
        if path != USED_THROUGH
        for module in _imports(tree)
        if module.split(".")[0] == "huggingface_hub" and module not in PROMISED
    }
    assert found == set()


def test_what_model_signing_does_not_promise_is_imported_in_one_place_alone():
    """Its manifests, and what begins with an underscore; its version is pinned for it."""
    using = {
        path
        for path, tree in sources().items()
        if any(m.partition(".")[0] in ("model_signing", "sigstore_models") for m in _imports(tree))
    }
    assert using == {"tasks/core/signing/bundle.py"}
    pinned = f'"model-signing=={version("model-signing")}"'
    assert pinned in (ROOT / "pyproject.toml").read_text()


def test_the_minor_version_is_pinned_to_the_one_that_is_tested():
    minor = version("huggingface_hub").rsplit(".", 1)[0]
    following = ".".join([minor.split(".")[0], str(int(minor.split(".")[1]) + 1)])
    assert f'"huggingface_hub>={minor},<{following}"' in (ROOT / "pyproject.toml").read_text()
