import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.core.errors import DataError, RecipeError
from tasks.core.files.given import at_rest, read_given_text, require_at_rest

Pipe = Callable[[bytes], Path]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """What bash puts in place of `<(command)`: a pipe under /dev/fd that gives its bytes once."""
    ends: list[int] = []
    writers: list[threading.Thread] = []

    def opened(content: bytes) -> Path:
        read_end, write_end = os.pipe()
        ends.append(read_end)

        def write() -> None:
            with os.fdopen(write_end, "wb") as file:
                file.write(content)

        writers.append(threading.Thread(target=write, daemon=True))
        writers[-1].start()
        return Path(f"/dev/fd/{read_end}")

    yield opened
    for end in ends:
        os.close(end)


def test_a_stream_is_refused_where_it_is_read_twice(pipe: Pipe, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (pipe(b"x"), fifo):
        with pytest.raises(DataError, match="stream, which can be read only once"):
            require_at_rest(path)


def test_a_file_a_directory_and_a_path_to_nothing_are_no_streams(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for path in (file, tmp_path, tmp_path / "none", tmp_path / "a\0b"):
        require_at_rest(path)
        with at_rest(path) as same:
            assert same == path


def test_a_file_on_the_disk_in_memory_is_no_stream() -> None:
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        require_at_rest(Path(file.name))


def test_a_stream_can_be_read_twice_from_its_spool_which_goes_with_the_block(pipe: Pipe) -> None:
    content = os.urandom(3_000_000)  # more than a pipe holds
    with at_rest(pipe(content)) as spool:
        assert spool.read_bytes() == content == spool.read_bytes()
    assert not spool.parent.exists()


def test_an_error_speaks_of_the_stream_and_not_of_its_spool(pipe: Pipe) -> None:
    path = pipe(b"x")
    with pytest.raises(DataError) as caught, at_rest(path) as spool:
        raise DataError("Wrong.", where=f"{spool}, record 2", next_step=f"Look into {spool}.")
    assert caught.value.where == f"{path}, record 2"
    assert caught.value.next_step == f"Look into {path}."


def test_a_regular_file_that_is_given_as_a_descriptor_is_copied_too(tmp_path: Path) -> None:
    """Its number means another file, or none, in a child process."""
    (tmp_path / "file").write_text("x")
    with (tmp_path / "file").open() as file, at_rest(Path(f"/dev/fd/{file.fileno()}")) as spool:
        assert spool.read_text() == "x"
        assert not spool.is_relative_to("/dev")


def test_text_with_a_byte_order_mark_is_read_and_so_is_a_stream(pipe: Pipe, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("name: é", encoding="utf-8-sig")
    for place in (path, pipe(path.read_bytes())):
        assert read_given_text(place, "The recipe", error=RecipeError) == "name: é"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("name: x".encode("utf-16"), "a text in UTF-16"),
        ("name: x".encode("utf-16-le"), "a text in UTF-16LE"),
        ("name: x".encode("utf-16-be"), "a text in UTF-16BE"),
        ("name: x".encode("utf-32"), "a text in UTF-32"),
        (b"PAR1\x00\x00", "a Parquet file"),
        (b"\x1f\x8b\x08\x00", "packed with gzip"),
        (b"name: x\x00\x01", "a binary file"),
        (b"name: a\nother: \xe9", "line 2"),
        (b"<!doctype html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
def test_what_is_no_utf8_text_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=words) as caught:
        read_given_text(path, "The recipe", error=RecipeError)
    assert caught.value.next_step
