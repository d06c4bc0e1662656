"""Whether a tokenizer's files can be loaded, judged by the tokenizers library alone.

For stages that only copy them; stages that tokenize load them anyway. Takes about 0.3 s for 32,000
tokens, too long for the check of every model directory.
"""

from pathlib import Path

from tokenizers import Tokenizer

from tasks.core.errors import NotAModel
from tasks.core.files.foreign import JsonObject, read_json_object, understood

_TOKENIZER = "tokenizer.json"
_CONFIGURATION = "tokenizer_config.json"
_CLASS = "tokenizer_class"
_LENGTH = "model_max_length"
_SPECIAL = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_TEXTS = (_CLASS, *(f"{kind}_token" for kind in _SPECIAL))


def require_tokenizer(directory: Path) -> None:
    """Raise NotAModel when tokenizer.json or tokenizer_config.json cannot be loaded.

    A directory without them passes: a base may have no tokenizer.
    """
    file, configuration = directory / _TOKENIZER, directory / _CONFIGURATION
    if file.is_file():
        with understood(_TOKENIZER, file, next_step="Download the file again from its source."):
            Tokenizer.from_file(str(file))
    if configuration.is_file():
        _require_kinds(read_json_object(configuration), configuration)


def _require_kinds(document: JsonObject, path: Path) -> None:
    length = document.get(_LENGTH)
    if length is not None and (isinstance(length, bool) or not isinstance(length, int | float)):
        raise _misfit(path, _LENGTH, "a number", length)
    for name in _TEXTS:
        value = document.get(name)
        token = value.get("content") if isinstance(value, dict) and name != _CLASS else value
        if value is not None and not isinstance(token, str):
            expected = "a string" if name == _CLASS else 'a string, or an object with "content"'
            raise _misfit(path, name, expected, value)


def _misfit(path: Path, name: str, expected: str, found: object) -> NotAModel:
    return NotAModel(
        f"{path.name} has a value of another type than transformers expects.",
        where=f"{path}: {name}",
        expected=expected,
        found=repr(found)[:60],
        next_step="Correct the value, or download the file again from its source.",
    )
