"""How the records of a file are laid out: a JSON array, JSON lines, or something else.

A file in another layout is refused once, by name: reading it as JSON lines would give one useless
error per line. The invariant: no file refused here holds a record that could have been read.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TextIO

from tasks.core.conversation.formats import field_of_records, take_out
from tasks.core.conversation.reading.json_text import JsonText, RepeatedField, not_json, one_value
from tasks.core.errors import DataError
from tasks.core.files.foreign import HEAD_BYTES
from tasks.core.files.given import require_at_rest
from tasks.core.files.kinds import kind_of
from tasks.core.system.errors import names_path

Layout = Literal["array", "lines"]

LOOKED_AT_CHARACTERS = 1 << 21
"""The longest multi-line value that is read only to name it in an error."""
_LOOKED_AT_LINES = 20
_IN_BRACKETS = (
    'python -c "import json, sys; print(json.dumps([json.load(sys.stdin)]))" < FILE > NEW'
)
_PLAIN_JSON = (
    'python -c "import ast, json, sys; print(json.dumps(ast.literal_eval(sys.stdin.read())))" '
    "< FILE > NEW"
)


def layout_of(path: Path, of: str) -> Layout:
    """Return the layout of the file. `of` names its records in errors, in the plural.

    Raises DataError for a stream and for a file in no such layout: empty, in another encoding, a
    table, one object over several lines. Raises OSError if the file cannot be read.
    """
    require_at_rest(path)
    with names_path(path), path.open("rb") as file:
        kind = kind_of(file.read(HEAD_BYTES))
    if kind is not None:
        raise _other(path, of, kind.name, kind.remedy)
    with _opened(path) as file:
        text = JsonText(file)
        first, line = text.peek(), text.line
    lines = _first_lines(path, line)
    if not first:
        found = f"an empty file: it holds no {of.removesuffix('s')}"
        raise _other(path, of, found, "Check the path, and the program that wrote the file.")
    if first == "[":
        return _array(path, of, lines)
    if len(lines[0]) == LOOKED_AT_CHARACTERS or _is_json(lines[0]):
        _require_objects(path, of, lines)
        return "lines"
    if first == "{":
        return _object(path, of, lines)
    if _are_lines(lines):
        return "lines"
    raise _other(path, of, *_prose(lines))


_EXPECTED = "a JSON array, or JSON lines: one object a line"


def _array(path: Path, of: str, lines: Sequence[str]) -> Layout:
    if _is_python(lines):
        raise _other(path, of, "written as Python shows values, not as JSON", _from_python())
    return "array"


def _object(path: Path, of: str, lines: Sequence[str]) -> Layout:
    """Return the layout of a file that begins with an object spanning several lines."""
    if _is_python(lines):
        raise _other(path, of, "written as Python shows values, not as JSON", _from_python())
    try:
        with _opened(path) as file:
            text = JsonText(file, max_characters=LOOKED_AT_CHARACTERS)
            value, more = text.value(), bool(text.peek())
    except RepeatedField as error:
        value, more = error.value, False
    except (ValueError, RecursionError) as error:
        if _are_lines(lines):
            return "lines"
        return _too_long_or_broken(path, of, error)
    if more:
        raise _other(
            path,
            of,
            "JSON objects one after another, each over several lines",
            "Write one object a line (`jq -c . FILE > NEW`), or all of them in [ ].",
        )
    raise _other(path, of, *one_object(value, of))


def one_object(value: object, of: str) -> tuple[str, str]:
    """Describe an object that is the whole file; return how to turn it into records."""
    field = field_of_records(value)
    if field is None:
        return f"one JSON object, not a list of {of}", f"Put it in [ ]: `{_IN_BRACKETS}`."
    return f"one JSON object with the {of} in its field `{field}`", take_out(field)


def _too_long_or_broken(path: Path, of: str, error: ValueError | RecursionError) -> Layout:
    if path.stat().st_size > LOOKED_AT_CHARACTERS and not str(error).startswith("not JSON"):
        raise _other(
            path,
            of,
            "one JSON object over many lines",
            "Write the list that stands in it into a file of its own.",
        )
    raise _other(
        path,
        of,
        f"one JSON object over several lines, and broken: {not_json(error)}",
        "Correct the syntax there, then look at the file again: it must hold a list of objects.",
    )


def _require_objects(path: Path, of: str, lines: Sequence[str]) -> None:
    """Raise DataError for a file whose only value is a string or a number."""
    if len(lines) > 1 or not _is_json(lines[0]):
        return
    try:
        value = one_value(lines[0])
    except RepeatedField:  # an object: reported as a bad record later
        return
    if isinstance(value, str):
        inner = _is_json(value)
        found = "a JSON string that holds JSON: it was encoded twice" if inner else "a JSON string"
        remedy = "Write it with one `json.dumps`, not with two." if inner else _FORM
        raise _other(path, of, found, remedy)
    if not isinstance(value, dict):
        raise _other(path, of, f"one JSON value, {lines[0].strip()[:20]}", _FORM)


_FORM = "Write the records as a JSON array, or one object a line."


def _prose(lines: Sequence[str]) -> tuple[str, str]:
    """Describe a text that is not JSON; return how to convert it."""
    if _is_python(lines):
        return "written as Python shows values, not as JSON", _from_python()
    columns = _columns(lines)
    if columns:
        return (
            f"a table (CSV) with the columns {', '.join(columns[:6])}",
            "Convert it to JSON lines, with pandas for example: `pandas.read_csv(FILE).to_json("
            'NEW, orient="records", lines=True)`.',
        )
    return f"text that is not JSON; it begins with {lines[0].strip()[:40]!r}", _FORM


def _columns(lines: Sequence[str]) -> list[str]:
    """Return the column names if the lines look like a table, else nothing."""
    for delimiter in (",", "\t", ";"):
        try:
            rows = list(csv.reader(lines[:2], delimiter=delimiter))
        except csv.Error:  # a field of more than 128 KiB
            continue
        if len(rows) == 2 and 1 < len(rows[0]) <= len(rows[1]):
            return [name.strip() for name in rows[0]]
    return []


def _is_python(lines: Sequence[str]) -> bool:
    """Return whether the text begins with the repr of a Python list or dictionary."""
    begin = "".join(lines[:3]).translate({ord(space): None for space in " \t\r\n"})
    return begin.lstrip("[{(").startswith("'") and begin[:1] in ("[", "{")


def _from_python() -> str:
    return f"Write it with `json.dumps`, or convert it: `{_PLAIN_JSON}`."


def _opened(path: Path) -> TextIO:
    """Open the file for inspection; bytes that are not UTF-8 are reported when it is read."""
    return path.open(encoding="utf-8-sig", errors="replace")


def _first_lines(path: Path, start: int) -> list[str]:
    """Return the first non-empty lines from line `start` on, each up to a limit."""
    found: list[str] = []
    with _opened(path) as file:
        for number in range(1, start + _LOOKED_AT_LINES):
            line = file.readline(LOOKED_AT_CHARACTERS)
            if not line:
                break
            if number >= start and line.strip():
                found.append(line)
    return found


def _are_lines(lines: Sequence[str]) -> bool:
    """Return whether at least half of the lines are JSON, so that the others are broken lines."""
    return 2 * sum(map(_is_json, lines)) >= len(lines)


def _is_json(text: str) -> bool:
    try:
        one_value(text)
    except RepeatedField:
        return True
    except (ValueError, RecursionError):
        return False
    return True


def _other(path: Path, of: str, found: str, next_step: str) -> DataError:
    return DataError(
        f"The {of} cannot be read.",
        where=path,
        expected=_EXPECTED,
        found=found,
        next_step=next_step,
    )
