"""What a refused file's next step tells people to type."""

from pathlib import Path

from tasks.core.conversation.checking.check_command import check_command
from tasks.core.conversation.checking.rules import Rules
from tasks.core.conversation.reading.data_files import DataFile
from tasks.core.recipe.data import DataFormat


def files(directory: Path, *names: str, format: DataFormat = "fastchat") -> list[DataFile]:
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / name).touch()
    return [DataFile(directory / name, f"what {name} is called", format) for name in names]


def test_what_was_brought_is_named_by_where_it_lies(tmp_path: Path) -> None:
    (one,) = files(tmp_path, "conversations.jsonl", format="openai")
    assert check_command([one]) == f"`kawan-usaha data check {one.path} --format openai`"


def test_a_way_with_a_space_is_one_word(tmp_path: Path) -> None:
    assert check_command(files(tmp_path / "data saya", "a.json")).endswith("data saya/a.json'`")


def test_a_directory_stands_for_all_of_its_files(tmp_path: Path) -> None:
    whole = files(tmp_path / "all", *(f"{n}.json" for n in range(30)))
    part = files(tmp_path / "some", "a.json", "b.json", "c.json")[:2]
    said = f"{tmp_path}/all {tmp_path}/some/a.json {tmp_path}/some/b.json"
    assert check_command([*whole, *part]) == f"`kawan-usaha data check {said}`"


def test_of_many_files_the_first_ten_are_named(tmp_path: Path) -> None:
    many = files(tmp_path, *(f"{n}.json" for n in range(30)))[:25]
    assert check_command(many).count(".json") == 10


def test_the_rules_of_the_caller_are_those_of_the_check(tmp_path: Path) -> None:
    one = files(tmp_path, "a.json")
    command = f"`kawan-usaha data check {tmp_path}/a.json"
    assert check_command(one, Rules().options) == f"{command}`"
    merged = Rules(language=None, merge_neighbours=True)
    assert check_command(one, merged.options) == f"{command} --language any --merge-neighbours`"
    assert check_command(one, Rules(language="en").options) == f"{command} --language en`"


def test_each_format_has_a_command_of_its_own(tmp_path: Path) -> None:
    some = files(tmp_path, "a.json"), files(tmp_path, "b.json", format="sharegpt")
    assert check_command([*some[0], *some[1]]) == (
        f"`kawan-usaha data check {tmp_path}/a.json` and "
        f"`kawan-usaha data check {tmp_path}/b.json --format sharegpt`"
    )
