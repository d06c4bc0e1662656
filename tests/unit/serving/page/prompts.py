"""The evaluation's prompts by their names."""

import json
from pathlib import Path

PROMPTS = Path(__file__).parents[4] / "data" / "evaluation" / "prompts.json"


def evaluation_prompt(name: str) -> str:
    (found,) = [each for each in json.loads(PROMPTS.read_text()) if each["id"] == name]
    return str(found["prompt"])
