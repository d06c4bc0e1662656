"""The hostfile of several machines: what is wrong with it is said by line and cause."""

from pathlib import Path

import pytest

from tasks.core.errors import RecipeError
from tasks.core.training.launch.hostfile import read_slots, require_slots


@pytest.fixture
def hostfile(tmp_path: Path) -> Path:
    return tmp_path / "hosts"


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("two lots=8", "'lots' is not slots"),
        ("two slot=8", "'slot' is not slots"),
        ("two Slots=8", "'Slots' is not slots"),
        ("two slots=", "'slots=' gives no number of GPUs"),
        ("two slots=eight", "'slots=eight' gives no number of GPUs"),
        ("two slots=0", "'slots=0' gives no number of GPUs"),
        ("two slots=-1", "'slots=-1' gives no number of GPUs"),
        ("two slots = 8", "'slots' gives no number"),
        ("two 8", "'8' is not slots=GPUs"),
        ("two", "no slots=GPUs after the name"),
        ("one slots=8", "one is already on an earlier line"),
    ],
)
def test_a_line_that_names_no_gpus_is_refused_by_its_number_and_cause(
    hostfile: Path, line: str, cause: str
) -> None:
    hostfile.write_text(f"# machines\none slots=8\n{line}  # here\n")
    with pytest.raises(RecipeError) as refused:
        require_slots(hostfile, 8)
    assert str(refused.value.where).endswith("hosts, line 3")
    assert cause in str(refused.value.found)


@pytest.mark.parametrize("content", ["", "# none\n", "one slots=1\n", "one slots=1\ntwo slots=2\n"])
def test_another_number_of_gpus_is_refused_with_those_of_each_machine(
    hostfile: Path, content: str
) -> None:
    hostfile.write_text(content)
    with pytest.raises(RecipeError, match="2 slots together"):
        require_slots(hostfile, 2)


def test_a_hostfile_that_is_no_text_or_not_there_is_refused(hostfile: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        read_slots(hostfile)
    hostfile.write_bytes(b"one slots=8\n\xff\xfe")
    with pytest.raises(RecipeError, match="not UTF-8"):
        read_slots(hostfile)


@pytest.mark.parametrize("line", ["one slots=8", "# machines"])
def test_a_byte_order_mark_is_named_because_deepspeed_does_not_skip_it(
    hostfile: Path, line: str
) -> None:
    hostfile.write_text(f"\ufeff{line}\n")
    with pytest.raises(RecipeError, match=r"line 1[\s\S]*byte order mark"):
        read_slots(hostfile)


def test_comments_and_empty_lines_are_skipped(hostfile: Path) -> None:
    hostfile.write_text("# two machines\none slots=1\n\ntwo\tslots=3  # a slow one\n")
    assert read_slots(hostfile) == {"one": 1, "two": 3}
