"""The code that a model directory brings: which its configurations name, and whose it is.

A loader that trusts a model runs what an `auto_map` names, what that imports, and a generation
loop of the model's own. Nothing of it runs here, and nothing but small JSON files and code is read.

The invariants: code comes from the model's own directory only, never from a repository that its
configuration names; and code that is not this project's, byte for byte, is run only where a person
has named the very commit that it comes from, or has put it into a directory of this machine.
"""

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path, PurePosixPath

from tasks.core.errors import NotAModel, UntrustedCode
from tasks.core.files.foreign import leaves, read_whole
from tasks.core.files.listing import matching, paths_below
from tasks.core.system.errors import is_of_the_machine

_OURS = Path(__file__).parents[1] / "architecture" / "remote"
_CONFIGURATIONS = "*config*.json"
"""Those of model, tokenizer, processor and generation, and `config.5.0.0.json` for a version."""
_GENERATION = Path("custom_generate", "generate.py")
"""What transformers runs in place of `generate`, without any configuration that names it."""


@dataclass(frozen=True)
class Reference:
    """Code as a configuration names it: `module.Class`, for the Auto class that asks for it."""

    file: Path
    kind: str
    name: str


def references(directory: Path) -> Iterator[Reference]:
    """Yield all code that the configurations name. What is no JSON names none."""
    for file in matching(directory, _CONFIGURATIONS):
        try:
            document = json.loads(read_whole(file).decode("utf-8-sig"))
        except (OSError, ValueError, RecursionError, NotAModel) as error:
            if is_of_the_machine(error):
                raise  # it could be read by the loader in a moment
            continue  # loading it will say why
        yield from (Reference(file, kind, name) for kind, name in _named(document))


def _named(document: object) -> Iterator[tuple[str, str]]:
    """Yield what each `auto_map` names, also that of a part, such as the text model's."""
    waiting = deque([document])
    while waiting:
        part = waiting.popleft()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            waiting += [value for key, value in part.items() if key != "auto_map"]
            yield from _entries(part.get("auto_map"))


def _entries(named: object) -> Iterator[tuple[str, str]]:
    # As tokenizers were saved in 2022: without the class that asks.
    by_kind = named if isinstance(named, dict) else {"AutoTokenizer": named}
    for kind, entry in by_kind.items():
        names = entry if isinstance(entry, list) else [entry]
        yield from ((str(kind), name) for name in names if isinstance(name, str))


def require_code_inside(directory: Path) -> None:
    """Raise UntrustedCode where a configuration names code outside the model's own directory.

    transformers would take `owner/name--module.Class` from that repository's main branch, whatever
    stands there on the day.
    """
    for reference in references(directory):
        if "--" in reference.name or leaves(reference.name):
            raise UntrustedCode(
                "The model's code is to be taken from elsewhere, where it may be another one "
                "tomorrow; nothing of it was run.",
                where=reference.file,
                expected="auto_map with module.Class, a file of this directory",
                found=f"{reference.kind}: {reference.name}",
                next_step="Read that code, copy it into the model's directory, and name it in "
                "auto_map without a repository; or use another model.",
            )


def foreign_code(here: Path, files: Mapping[str, str]) -> tuple[str, ...]:
    """Return the code, by name, that a loader may run and that is not this project's own.

    files tells all files of the model, by their SHA-256; of a model whose large files are not on
    this machine, here are the others, and a configuration that is not there may name code. Where
    anything is loaded from a file, all code beside it counts, since it may import that.
    """
    loads_code = _GENERATION.as_posix() in files or any(
        "/" not in name and fnmatchcase(name, _CONFIGURATIONS) and not (here / name).is_file()
        for name in files
    )
    if not loads_code and next(references(here), None) is None:
        return ()
    code = {name: sha for name, sha in files.items() if PurePosixPath(name).suffix == ".py"}
    return tuple(sorted(name for name, sha in code.items() if sha != _our_sha256(name)))


def brings_only_our_code(directory: Path) -> bool:
    """Return whether a directory has code, and all of it is this project's.

    What a link to a directory leads to is a loader's, too, and nobody has looked at it.
    """
    paths = paths_below(directory)
    if any(path.is_symlink() and path.is_dir() for path in paths):
        return False
    code = [path for path in paths if path.suffix == ".py"]
    return any(path.parent == directory for path in code) and all(
        _sha256(path) == _our_sha256(path.relative_to(directory).as_posix()) for path in code
    )


def _our_sha256(name: str) -> str | None:
    own = _OURS / name
    return _sha256(own) if own.is_file() else None


def _sha256(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
