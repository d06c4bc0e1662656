import pytest

from tasks.core.errors import UsageError
from tasks.core.planning.gpus import known_card, known_cards, parse_gpus
from tasks.core.planning.units import GIB, MIB


@pytest.mark.parametrize("text", ["", "   ", "0xL4", "x"])
def test_words_that_name_no_gpu_are_refused(text):
    with pytest.raises(UsageError) as refused:
        parse_gpus(text)
    assert f"--gpus {text}" == refused.value.where


def test_an_unknown_card_is_answered_with_near_names_and_a_way_out():
    with pytest.raises(UsageError) as refused:
        parse_gpus("2xRTX4091")
    assert "RTX4090" in (refused.value.expected or "")
    assert "H100" not in (refused.value.expected or "")
    assert "2x24GiB" in (refused.value.next_step or "")


def test_a_card_like_no_other_is_answered_with_all_names():
    with pytest.raises(UsageError) as refused:
        parse_gpus("Voodoo")
    assert all(name in (refused.value.expected or "") for name in known_cards())


@pytest.mark.parametrize("text", ["2xL4", "2 x l4", "2×L4", "2*L4", " 2xL4 "])
def test_count_and_card_are_read_however_they_are_written(text):
    gpus = parse_gpus(text)
    assert [gpu.name for gpu in gpus] == ["L4", "L4"]
    assert gpus[0].memory_bytes == 23_034 * MIB


def test_a_card_without_a_count_is_one():
    assert len(parse_gpus("RTX4090")) == 1


@pytest.mark.parametrize("text", ["2x24GiB", "2x24GB", "2x24g", "2x24 GiB"])
def test_a_size_is_read_in_gib_as_cards_are_sold(text):
    assert [gpu.memory_bytes for gpu in parse_gpus(text)] == [24 * GIB] * 2


@pytest.mark.parametrize(
    ("driver", "card"),
    [
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100-40GB"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX6000Ada"),
        ("Tesla T4", "T4"),
        ("NVIDIA L4", "L4"),
    ],
)
def test_the_drivers_names_are_known(driver, card):
    known = known_card(driver)
    assert known is not None
    assert known.name == card


@pytest.mark.parametrize("name", known_cards())
def test_every_known_card_is_found_by_its_own_name(name):
    assert parse_gpus(f"1x{name}")[0].name == name


def test_cards_before_ampere_have_no_bfloat16():
    old = {name for name in known_cards() if not parse_gpus(name)[0].bfloat16}
    assert old == {"P100-16GB", "V100-16GB", "V100-32GB", "T4"}
