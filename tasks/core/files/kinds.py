"""Recognizing a file by its first bytes where UTF-8 text is expected. Pure."""

from dataclasses import dataclass

from tasks.core.files.foreign import pointer_or_page


@dataclass(frozen=True)
class FileKind:
    """What a file is (completes "it is ..."), and how to turn it into UTF-8 text."""

    name: str
    remedy: str


def kind_of(head: bytes) -> FileKind | None:
    """Return what a file is that begins with these bytes, None if it may be UTF-8 text."""
    found = pointer_or_page(head)
    if found is not None:
        return FileKind(*found)
    for beginning, kind in _KINDS:
        if head.startswith(beginning):
            return kind
    return _without_mark(head)


def _encoded(encoding: str) -> FileKind:
    remedy = f"Convert it: `iconv -f {encoding} -t UTF-8 FILE > NEW`."
    return FileKind(f"a text in {encoding}", remedy)


def _packed(name: str, command: str) -> FileKind:
    return FileKind(
        f"a file packed with {name}", f"Unpack it, or name `<({command} FILE)` in bash."
    )


def _table(name: str, reader: str) -> FileKind:
    remedy = (
        f"Convert it to JSON lines, with pandas for example: `{reader}(FILE).to_json(NEW, "
        'orient="records", lines=True)`.'
    )
    return FileKind(name, remedy)


_BINARY = FileKind("a binary file", "Name a text file in UTF-8.")
# Longer signatures come before their own prefixes.
_KINDS = (
    (b"\xff\xfe\x00\x00", _encoded("UTF-32")),
    (b"\x00\x00\xfe\xff", _encoded("UTF-32")),
    (b"\xff\xfe", _encoded("UTF-16")),
    (b"\xfe\xff", _encoded("UTF-16")),
    (b"PAR1", _table("a Parquet file", "pandas.read_parquet")),
    (b"ARROW1", _table("an Arrow file", "pandas.read_feather")),
    (b"ORC", _table("an ORC file", "pandas.read_orc")),
    (b"\x1f\x8b", _packed("gzip", "gunzip -c")),
    (b"BZh", _packed("bzip2", "bunzip2 -c")),
    (b"\xfd7zXZ\x00", _packed("xz", "xz -dc")),
    (b"\x28\xb5\x2f\xfd", _packed("zstd", "zstd -dc")),
    (b"PK\x03\x04", FileKind("a ZIP archive, as .xlsx is one", "Unpack it, or export it as JSON.")),
    (b"SQLite format 3\x00", FileKind("an SQLite database", "Export its records as JSON.")),
    (b"%PDF", FileKind("a PDF document", "Name a text file in UTF-8.")),
    *(
        (bytes([0x80, version]), FileKind("a pickle", "Write it as JSON."))
        for version in range(2, 6)
    ),
)


def _without_mark(head: bytes) -> FileKind | None:
    """Judge by zero bytes, which UTF-8 text does not contain."""
    zeros = [bool(head) and not byte for byte in head]
    if not any(zeros):
        return None
    even, odd = zeros[::2].count(True), zeros[1::2].count(True)
    pairs = max(1, len(head) // 2)
    if odd > 0.4 * pairs and not even:
        return _encoded("UTF-16LE")
    if even > 0.4 * pairs and not odd:
        return _encoded("UTF-16BE")
    return _BINARY
