"""Every number of every command has a range, and what lies outside is refused while it is read."""

from collections.abc import Iterator

import pytest
import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from flows.cli import app
from flows.command_line.numbers import Range
from tasks.core.recipe import Finetune


def options(command: object, words: tuple[str, ...] = ()) -> Iterator[tuple[str, TyperOption]]:
    """Yield each option of each command, with the words that call it and fill its arguments."""
    if isinstance(command, TyperGroup):
        for name, each in command.commands.items():
            yield from options(each, (*words, name))
        return
    assert isinstance(command, TyperCommand)
    required = [p for p in command.params if p.required]
    filled = [w for p in required if isinstance(p, TyperOption) for w in (p.opts[0], "1")]
    given = [*words, *filled, *("x" for p in required if not isinstance(p, TyperOption))]
    for param in command.params:
        if isinstance(param, TyperOption):
            yield " ".join(given), param


ROOT = typer.main.get_command(app)
ALL = list(options(ROOT))
NUMBERS = [(words, one) for words, one in ALL if one.type_descriptor.annotation in (int, float)]


def test_no_option_reads_a_number_by_another_rule() -> None:
    other = [
        (words, one.opts) for words, one in NUMBERS if not one.type_descriptor.parameter_info.parser
    ]
    assert other == []
    assert len(NUMBERS) > 30


@pytest.mark.parametrize(("words", "option"), [(words, one.opts[0]) for words, one in NUMBERS])
def test_a_number_out_of_range_is_refused_with_the_range(
    words: str, option: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for value in ("-1000000", "nan", "inf", "many"):
        with pytest.raises(SystemExit) as ended:
            ROOT.main([*words.split(), f"{option}={value}"], prog_name="kawan-usaha")
        said = capsys.readouterr().err
        assert ended.value.code == 2
        assert option in said
        assert "expected a whole number, " in said or "expected a finite number, " in said
        assert any(word in said for word in ("at least ", "above ", "one of "))


def test_a_whole_number_is_compared_and_shown_with_all_its_digits() -> None:
    seed = Range.of(Finetune.model_fields["seed"])
    assert str(seed) == "at least 0, below 4294967296"
    with pytest.raises(typer.BadParameter, match="below 4294967296"):
        seed.parse("9" * 400)
