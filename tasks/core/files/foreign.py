"""Reading files that other programs wrote: disguised files, JSON, and objects of other libraries.

One function recognizes what a file really is, one reads a JSON object, and one context manager
guards a library that builds an object from files. Imports neither torch nor transformers.

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
"""The largest file that is read at once; the largest tokenizers have 40 MB."""
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
"""What a Rust library raises for an unforeseen error; it is not a subclass of Exception."""

_PULL = (
    "Fetch the file itself: `git lfs install && git lfs pull` in the repository, or "
    "`kawan-usaha download OWNER/NAME DIRECTORY`."
)
_AGAIN = "Download the file again; a private or gated repository needs HF_TOKEN."


def leaves(name: str) -> bool:
    """Return whether a name that somebody else wrote would leave its directory.

    So does an absolute or empty one, one with `..`, and one with a backslash or a NUL byte. Links
    are not checked.
    """
    parts = PurePosixPath(name)
    return (
        parts.is_absolute()
        or ".." in parts.parts
        or not parts.parts
        or any(sign in name for sign in ("\\", "\0"))
    )


def disguise_of(path: Path, *, text: bool) -> tuple[str, str] | None:
    """Return what a file is instead of what its name promises, with the remedy; else None.

    Recognizes empty files, pointers of Git LFS and Xet, web pages, and, where text is False because
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
    """Recognize a Git LFS pointer or a web page by its beginning; return it with the remedy."""
    if head.startswith((_LFS, _XET)):
        return "a Git LFS pointer, not the file that it stands for", _PULL
    if _PAGE.match(head.removeprefix(_BOM)):
        return "a web page (HTML or XML), such as a server sends for an error or a login", _AGAIN
    return None


def require_undisguised(
    path: Path, *, text: bool, error: type[KawanUsahaError] = NotAModel
) -> None:
    """Raise error, with the remedy, if the file is something else than its name promises."""
    disguise = disguise_of(path, text=text)
    if disguise is not None:
        raise error(
            f"{path.name} is {disguise[0]}.", where=path, found=disguise[0], next_step=disguise[1]
        )


def read_whole(
    path: Path, *, error: type[KawanUsahaError] = NotAModel, max_bytes: int = MAX_BYTES
) -> bytes:
    """Return all bytes of a file that somebody else wrote.

    Raises error for anything but a regular file, which might block for ever, and for more than
    max_bytes. A missing file stays a FileNotFoundError.
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
    """Return the first name that occurs twice among the fields of a JSON object, if any."""
    counts = Counter(name for name, _ in pairs)
    return next((name for name, count in counts.items() if count > 1), None)


def read_json_object(
    path: Path, *, error: type[KawanUsahaError] = NotAModel, next_step: str | None = None
) -> JsonObject:
    """Return the JSON object in a file that somebody else wrote; a byte order mark is skipped.

    Raises error for anything else, with line and cause: a pointer or web page, a trailing comma,
    another encoding than UTF-8, half a file. A missing file stays a FileNotFoundError, which each
    caller explains itself.
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
            next_step=next_step or "Correct that line, or get the original file again.",
        ) from cause
    except (RecursionError, ValueError) as cause:  # an integer of a million digits is a ValueError
        raise error(f"{path.name} is not valid JSON.", where=path, found=cause) from cause
    if is_no_text(raw, document):
        raise error(
            f"{path.name} holds half of a surrogate pair, which no file can hold as text.",
            where=path,
            next_step=next_step or "Get the original file again.",
        )
    if not isinstance(document, dict):
        raise error(
            f"{path.name} is not a JSON object.",
            where=path,
            found=type(document).__name__,
            next_step=next_step or "Get the original file again.",
        )
    return document


def is_no_text(raw: bytes, document: object) -> bool:
    """Return whether the document read from raw JSON cannot be encoded as UTF-8.

    JSON can escape half of a surrogate pair, and Python accepts it.
    """
    if rb"\u" not in raw:
        return False
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def begins_with_bom(path: Path) -> bool:
    """Return whether a file begins with a byte order mark, which transformers rejects."""
    with names_path(path), path.open("rb") as file:
        return file.read(len(_BOM)) == _BOM


@contextmanager
def understood(what: str, where: object, *, next_step: str | None = None) -> Iterator[None]:
    """Guard a library that builds an object from other people's files during the block.

    Whatever it raises becomes NotAModel with its message, except errors of the system (a full or
    failing disk, memory, descriptors) and errors that are explained already.
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
            next_step=next_step
            or "Correct the value named above, or use the model's original file.",
        ) from error


def json_fault(error: json.JSONDecodeError) -> str:
    """Return the cause in words. Python does not name the most common one, a trailing comma."""
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
