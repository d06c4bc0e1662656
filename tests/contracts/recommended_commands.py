"""Every `kawan-usaha …` command that the project's own words recommend, and where.

Covers string constants of the code (messages, docstrings and with them `--help`; what an f-string
fills in stands as `1`) and the texts that come with the project: commands in backticks anywhere,
and lines that begin with one in a code block or a message.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.contracts.sources import below, nodes, sources

ROOT = Path(__file__).parents[2]

_QUOTED = re.compile(r"`(?:\.venv/bin/)?kawan-usaha ([^`]+)`")
_QUOTED_GROUP = re.compile(r"`((?:store|data) [a-z][^`]*)`")
_LINE = re.compile(r"(?:^|: )\s*(?:\.venv/bin/)?kawan-usaha (\S.*?)(?:  |$)", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_FILLED_IN = "1"


@dataclass(frozen=True)
class Recommended:
    """One command as it is written, without the program's name."""

    where: str
    words: str

    def __str__(self) -> str:
        return f"{self.where}: {self.words}"


def recommended_commands() -> Iterator[Recommended]:
    """Yield all of them."""
    for path, texts_of_it in constants_of_the_code().items():
        for text in texts_of_it:
            yield from _found(path, [*_quoted(text), *_lines(text)])
    own = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "prefect.yaml")
    texts = [ROOT / name for name in own]
    for directory in ("docs", "data"):
        texts += sorted(p for kind in ("md", "yaml") for p in (ROOT / directory).rglob(f"*.{kind}"))
    for path in texts:
        text = path.read_text().replace("\n# ", "\n")  # a comment of YAML goes on in the next line
        fenced = [words for block in _FENCED.findall(text) for words in _lines(block)]
        yield from _found(path, [*_quoted(_FENCED.sub("", text)), *fenced])


def _found(path: Path, commands: list[str]) -> Iterator[Recommended]:
    for words in commands:
        yield Recommended(str(path.relative_to(ROOT)), " ".join(words.split()))


def _quoted(text: str) -> list[str]:
    return [*_QUOTED.findall(text), *_QUOTED_GROUP.findall(text)]


def _lines(text: str) -> list[str]:
    lines = [re.sub(r"\s#.*$", "", line) for line in text.splitlines()]
    return [
        words
        for line in lines
        for command in re.split(r";\s*", line)
        for words in _LINE.findall(command)
        if "`" not in words
    ]


@cache
def constants_of_the_code() -> dict[Path, list[str]]:
    """Return the strings of each of our modules; each process of the suite asks three times."""
    return {ROOT / path: list(_constants(tree)) for path, tree in sources().items()}


def _constants(tree: ast.Module) -> Iterator[str]:
    """Yield every string of a module as it is shown, an f-string in one piece."""
    inside = {
        id(part)
        for node in nodes(tree)
        if isinstance(node, ast.JoinedStr)
        for part in below(node)
        if part is not node
    }
    for node in nodes(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (p.value if isinstance(p, ast.Constant) else _FILLED_IN for p in node.values)
            yield "".join(str(part) for part in parts)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in inside
        ):
            yield node.value
