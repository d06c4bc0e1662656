"""Preferences for trainings of a tiny model: of two answers, one kind is always chosen."""

import json
from pathlib import Path

from tests.models import WORDS


def preferences(count: int = 12) -> list[dict[str, object]]:
    """Return pairs that all prefer the same kind of answer to another kind."""
    return [
        {
            "id": str(i),
            "conversations": [
                {"from": "human", "value": " ".join([*WORDS[i % 7 : i % 7 + 3], str(i)])}
            ],
            "chosen": " ".join(WORDS[: 2 + i % 5]),
            "rejected": " ".join(reversed(WORDS[-3 - i % 4 :])),
        }
        for i in range(count)
    ]


def write_preferences(path: Path, count: int = 12) -> Path:
    """Write them as JSON lines."""
    path.write_text("".join(json.dumps(each) + "\n" for each in preferences(count)))
    return path
