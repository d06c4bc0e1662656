"""The tokens that were added to a tokenizer's vocabulary, from its files, without a tokenizer."""

from collections.abc import Iterator
from pathlib import Path

from tasks.core.files.foreign import JsonObject, read_json_object


def added_tokens(directory: Path) -> dict[str, int]:
    """Return each added token with its id, from any of the tokenizer's files that list it."""
    found: dict[str, int] = {}
    for name in ("added_tokens.json", "tokenizer_config.json", "tokenizer.json"):
        if (directory / name).is_file():
            found |= dict(_named(read_json_object(directory / name), of_file=name))
    return found


def _named(document: JsonObject, *, of_file: str) -> Iterator[tuple[str, int]]:
    decoder, listed = document.get("added_tokens_decoder"), document.get("added_tokens")
    if of_file == "added_tokens.json":
        yield from ((token, n) for token, n in document.items() if isinstance(n, int))
    if isinstance(decoder, dict):
        for number, token in decoder.items():
            if isinstance(token, dict) and number.isdecimal():
                yield str(token.get("content")), int(number)
    if isinstance(listed, list):
        for token in listed:
            if isinstance(token, dict) and isinstance(token.get("id"), int):
                yield str(token.get("content")), token["id"]
