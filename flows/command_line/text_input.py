"""Text that a person typed or piped in: UTF-8, or a clear error.

Models, logs and records take text only. A terminal or file in another encoding gives other bytes.
"""

from tasks.core.errors import UsageError


def require_text(words: str | None) -> str | None:
    """Return the value of an option. Raises UsageError if it is not text."""
    return None if words is None else _encodable(words, "the command line")


def read_line(prompt: str) -> str:
    """Return the next line of standard input, stripped; "" at its end.

    Raises UsageError if the line is not text.
    """
    try:
        return _encodable(input(prompt).strip(), "the standard input")
    except EOFError:
        return ""
    except UnicodeDecodeError as error:
        raise _no_text("the standard input", error) from error


def _encodable(words: str, where: str) -> str:
    try:
        words.encode()
    except UnicodeEncodeError as error:  # Python carries bytes of another encoding as surrogates
        raise _no_text(where, error) from error
    return words


def _no_text(where: str, error: UnicodeError) -> UsageError:
    return UsageError(
        "The input is not UTF-8.",
        where=where,
        found=str(error),
        next_step="Set the terminal to UTF-8 (`export LANG=C.UTF-8`); turn a file into UTF-8 with "
        "`iconv -f WINDOWS-1252 -t UTF-8 FILE`.",
    )
