"""What other people's programs left: files that are not what their names say, JSON, and objects.

One function tells what a file really is, one reads a JSON object, and one block lets another
library build something from it; each has one error. Imports neither torch nor transformers.

The invariant: whatever a file holds and whatever a library raises, the caller gets a value or a
KawanUsahaError that names the file.
"""

import json
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tasks.core.errors import KawanUsahaError, NotAModel
from tasks.core.system.errors import is_of_the_machine, names_path

JsonObject = dict[str, object]

HEAD_BYTES = 512
MAX_BYTES = 100_000_000
"""The most that is read whole of a file that is to be small; the largest tokenizers have 40 MB."""
_LFS = b"version https://git-lfs.github.com/spec/"
_XET = b"# xet version"
_PAGE = re.compile(rb"\s*<(!doctype\s+html|html|head|body|\?xml|error)", re.IGNORECASE)
_SERVER = re.compile(
    rb'\s*(\{\s*"(error|message|detail)"\s*:|(entry|repository|revision) not found|'
    rb"access to (model|dataset) |invalid (username|credentials))",
    re.IGNORECASE,
)
_LETTERS = bytes(range(0x20, 0x7F)) + b"\t\r\n"
_BOM = b"\xef\xbb\xbf"
_PANIC = "PanicException"
"""What a library written in Rust raises for an error that it did not foresee; no Exception."""

_PULL = (
    "Fetch the file itself: `git lfs install && git lfs pull` in the repository, or "
    "`kawan-usaha download OWNER/NAME DIRECTORY`."
)
_AGAIN = "Download the file again; a private or gated repository needs HF_TOKEN."


def leaves(name: str) -> bool:
    """Return whether a name that somebody else wrote is no plain path below its directory.

    An absolute one, one with `..` or nothing in it, and one with what another system separates by
    or C ends at. Whether a file of that name is a link is not looked at.
    """
    parts = PurePosixPath(name)
    return (
        parts.is_absolute()
        or ".." in parts.parts
        or not parts.parts
        or any(sign in name for sign in ("\\", "\0"))
    )


def disguise_of(path: Path, *, text: bool) -> tuple[str, str] | None:
    """Return what stands in place of the file that the name promises, and the remedy; else None.

    Knows empty files, pointers of Git LFS and Xet, web pages, and, where text is False because
    the format is binary, any text (a server's "Entry not found"). Reads 512 bytes.
    """
    with names_path(path), path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        return "an empty file", _AGAIN
    found = pointer_or_page(head)
    if found is not None:
        return found
    if _SERVER.match(head):
        return "the error message of a server", _AGAIN
    if not text and not head.translate(None, _LETTERS):
        shown = head.decode("ascii").split("\n")[0][:60]
        return f"a text, which begins with {shown!r}", _AGAIN
    return None


def pointer_or_page(head: bytes) -> tuple[str, str] | None:
    """Return what a file that begins so stands for in place of its content, and the remedy."""
    if head.startswith((_LFS, _XET)):
        return "a Git LFS pointer, not the file that it stands for", _PULL
    if _PAGE.match(head.removeprefix(_BOM)):
        return "a web page (HTML or XML), such as a server sends for an error or a login", _AGAIN
    return None


def require_undisguised(
    path: Path, *, text: bool, error: type[KawanUsahaError] = NotAModel
) -> None:
    """Raise error, with its remedy, when something else stands in the file's place."""
    disguise = disguise_of(path, text=text)
    if disguise is not None:
        raise error(
            f"{path.name} is {disguise[0]}.", where=path, found=disguise[0], next_step=disguise[1]
        )


def read_whole(
    path: Path, *, error: type[KawanUsahaError] = NotAModel, max_bytes: int = MAX_BYTES
) -> bytes:
    """Return the bytes of a file that somebody else wrote and that is read at once.

    Raises error for what is no file, on whose bytes one might wait for ever, and for one of more
    than max_bytes. A file that does not exist stays a FileNotFoundError.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        found = "a directory" if stat.S_ISDIR(mode) else "a stream or a device"
        raise error(f"{path.name} is {found}, not a file.", where=path)
    with names_path(path), path.open("rb") as file:
        raw = file.read(max_bytes + 1)
    if len(raw) > max_bytes:
        raise error(
            f"{path.name} is too large.",
            where=path,
            expected=f"at most {max_bytes} bytes",
            next_step=_AGAIN,
        )
    return raw


def repeated_name(pairs: Sequence[tuple[str, object]]) -> str | None:
    """Return the first name that stands twice in the fields of a JSON object, None without one."""
    counts = Counter(name for name, _ in pairs)
    return next((name for name, count in counts.items() if count > 1), None)


def read_json_object(
    path: Path, *, error: type[KawanUsahaError] = NotAModel, next_step: str | None = None
) -> JsonObject:
    """Return the JSON object in a file that somebody else wrote; a byte order mark is skipped.

    Raises error for anything else, with line and cause: a pointer or a web page in the file's
    place, a comma before a closing bracket, another encoding than UTF-8, half a file. A file that
    does not exist stays a FileNotFoundError, which each caller explains in its own words.
    """
    raw = read_whole(path, error=error)
    require_undisguised(path, text=True, error=error)
    try:
        document = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as cause:
        found = f"byte {cause.start} is 0x{raw[cause.start + _skipped(raw)]:02x}"
        raise error(
            f"{path.name} is not encoded as UTF-8.",
            where=path,
            found=found,
            next_step="Save it as UTF-8.",
        ) from cause
    except json.JSONDecodeError as cause:
        raise error(
            f"{path.name} is not valid JSON.",
            where=f"{path}, line {cause.lineno}",
            found=json_fault(cause),
            next_step=next_step or "Correct that line, or take the file from where it came.",
        ) from cause
    except (RecursionError, ValueError) as cause:  # an integer of a million digits is a ValueError
        raise error(f"{path.name} is not valid JSON.", where=path, found=cause) from cause
    if is_no_text(raw, document):
        raise error(
            f"{path.name} holds half of a surrogate pair, which no file can hold as text.",
            where=path,
            next_step=next_step or "Take the file from where it came.",
        )
    if not isinstance(document, dict):
        raise error(
            f"{path.name} is not a JSON object.",
            where=path,
            found=type(document).__name__,
            next_step=next_step or "Take the file from where it came.",
        )
    return document


def is_no_text(raw: bytes, document: object) -> bool:
    """Return whether what was read from raw, which is JSON, cannot be written as UTF-8.

    JSON escapes half of a surrogate pair like any character, and Python reads it.
    """
    if rb"\u" not in raw:
        return False
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def begins_with_bom(path: Path) -> bool:
    """Return whether a file begins with a byte order mark, which transformers cannot read."""
    with names_path(path), path.open("rb") as file:
        return file.read(len(_BOM)) == _BOM


@contextmanager
def understood(what: str, where: object, *, next_step: str | None = None) -> Iterator[None]:
    """Let another library build something from other people's files during the block.

    Whatever it raises becomes NotAModel with its own words, but for what the system refuses (a full
    or failing disk, memory, descriptors) and for errors that are explained already.
    """
    try:
        yield
    except KawanUsahaError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
            raise
        if is_of_the_machine(error):
            with names_path(str(where)):
                raise
        raise NotAModel(
            f"{what[0].upper()}{what[1:]} cannot be loaded from these files.",
            where=where,
            found=f"{type(error).__name__}: {_in_short(error)}",
            next_step=next_step or "Correct the value that is named, or take the model's own file.",
        ) from error


def json_fault(error: json.JSONDecodeError) -> str:
    """Return the cause in words; a comma too many is the commonest, and Python names others."""
    before = error.doc[: error.pos].rstrip()
    if error.doc[error.pos : error.pos + 1] in ("}", "]") and before.endswith(","):
        return f"a comma before the closing {error.doc[error.pos]}"
    if "property name" in error.msg and re.match(r",?\s*}", error.doc[error.pos :]):
        return "a comma before the closing }"
    if error.msg.startswith("Illegal trailing comma"):
        return "a comma before the closing bracket"
    if not error.doc[error.pos :].strip():
        return f"it ends in the middle ({error.msg})"
    return error.msg


def _skipped(raw: bytes) -> int:
    return len(_BOM) if raw.startswith(_BOM) else 0


def _in_short(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])[:400] if lines else repr(error)
