"""Every option and every field of the recipe that the project's own messages name, and where.

Covers string constants of the code that are sentences. Options of other programs are known by what
stands before them.
"""

import re
from collections.abc import Iterator

from tests.contracts.recommended_commands import ROOT, Recommended, constants_of_the_code

_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
_FIELD = re.compile(
    r"\b((?:base|delta|edit|finetune|evaluate|publish|deploy)\.[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*)\b"
)
_OF_OTHERS = re.compile(r"`?(pip install|deepspeed)[^`;.]*")


def recommended_options() -> Iterator[Recommended]:
    """Yield each option, such as `--load-8bit`."""
    return _named(_OPTION, without=_OF_OTHERS)


def recommended_fields() -> Iterator[Recommended]:
    """Yield each field, such as `deploy.load_8bit`."""
    return _named(_FIELD)


def _named(
    pattern: re.Pattern[str], *, without: re.Pattern[str] | None = None
) -> Iterator[Recommended]:
    for path, texts in constants_of_the_code().items():
        for text in texts:
            if " " in text.strip():
                own = without.sub("", text) if without else text
                for name in pattern.findall(own):
                    yield Recommended(str(path.relative_to(ROOT)), name)
