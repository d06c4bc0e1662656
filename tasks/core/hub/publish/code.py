"""Which code is published with a model: what its configurations name, and what that imports.

Invariant: the code that a loader asks for is in the directory, or the model is refused. Otherwise
it would fail to load only after everything was sent.
"""

from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from tasks.core.errors import NotAModel
from tasks.core.model.code import references
from tasks.core.model.source_code import relative_imports
from tasks.core.system.errors import names_path

_ASKED_FOR = ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer")
"""The classes of transformers that a causal model is loaded with."""


def code_files(model: Path, present: Collection[str]) -> set[str]:
    """Return the files with code that the configurations name, and what these import.

    Raises NotAModel when code that a loader asks for is not among the files present.
    """
    waiting = list(_named_files(model, present))
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in present and name not in found:
            found.add(name)
            waiting += _imported(model / name, PurePosixPath(name).parent)
    return found


def _named_files(model: Path, present: Collection[str]) -> Iterator[str]:
    for reference in references(model):
        if reference.file.name not in present:
            continue
        file = f"{reference.name.rpartition('.')[0].replace('.', '/')}.py"
        if file not in present and reference.kind in _ASKED_FOR:
            raise NotAModel(
                "The model's code is not in its directory, so what is published would not load.",
                where=reference.file,
                expected=f"{file} in the directory",
                found=f"auto_map names {reference.name} as {reference.kind}",
                next_step="Copy the code into the model's directory, and name it in auto_map "
                "as module.Class, without a repository prefix.",
            )
        yield file


def _imported(code: Path, package: PurePosixPath) -> Iterator[str]:
    """Yield the files that a relative import may mean, as transformers follows them."""
    try:
        with names_path(code):
            found = list(relative_imports(code.read_bytes()))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, SyntaxError, ValueError):
        return
    for each in found:
        above = [package, *package.parents]
        if each.level > len(above):
            continue
        start = above[each.level - 1]
        modules = [each.module] if each.module else []
        modules += [".".join([*modules[:1], name]) for name in each.names]
        for module in modules:
            path = start / module.replace(".", "/")
            yield from (f"{path}.py", f"{path}/__init__.py")
