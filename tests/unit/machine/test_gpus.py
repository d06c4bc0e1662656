import pytest

from tasks.core.errors import UsageError
from tasks.core.machine.gpus import known_card, known_cards, parse_gpus
from tasks.core.units import GB, GIB, MIB


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


MULTIPROCESSORS = {
    "P100-16GB": (56, 1.328, 256),
    "T4": (40, 1.59, 1024),
    "V100-16GB": (80, 1.53, 1024),
    "V100-32GB": (80, 1.53, 1024),
    "RTX3060": (28, 1.777, 512),
    "RTX3090": (82, 1.695, 512),
    "A10": (72, 1.695, 1024),
    "A10G": (80, 1.71, 512),
    "A30": (56, 1.44, 2048),
    "A40": (84, 1.74, 1024),
    "RTXA5000": (64, 1.695, 1024),
    "RTXA6000": (84, 1.80, 1024),
    "A100-40GB": (108, 1.41, 2048),
    "A100-80GB": (108, 1.41, 2048),
    "RTX4060Ti-16GB": (34, 2.535, 512),
    "RTX4080": (76, 2.505, 512),
    "RTX4090": (128, 2.52, 512),
    "RTX6000Ada": (142, 2.505, 1024),
    "L4": (58, 2.04, 1024),
    "L40S": (142, 2.52, 1024),
    "H100": (132, 1.83, 4096),
    "H200": (132, 1.83, 4096),
    "B200": (148, 1.85, 8192),
    "RTX5090": (170, 2.407, 512),
}
"""Multiprocessors, boost clock in GHz, operations of one in a clock (16 bits, dense, fp32 sums): of
NVIDIA's architecture papers. Cards for games sum in fp32 at half the rate."""


def test_each_cards_peak_is_what_its_multiprocessors_can_do() -> None:
    assert set(MULTIPROCESSORS) == set(known_cards())
    for card, (multiprocessors, ghz, operations) in MULTIPROCESSORS.items():
        (gpu,) = parse_gpus(card)
        assert gpu.speed is not None
        peak = multiprocessors * ghz * operations / 1000
        assert gpu.speed.tflops == pytest.approx(peak, rel=0.03)


BUS = {
    "P100-16GB": (4096, 1.43),
    "V100-16GB": (4096, 1.755),
    "V100-32GB": (4096, 1.755),
    "T4": (256, 10),
    "RTX3060": (192, 15),
    "RTX3090": (384, 19.5),
    "RTX4060Ti-16GB": (128, 18),
    "RTX4080": (256, 22.4),
    "RTX4090": (384, 21),
    "RTX5090": (512, 28),
    "RTXA5000": (384, 16),
    "RTXA6000": (384, 16),
    "RTX6000Ada": (384, 20),
    "A10": (384, 12.5),
    "A10G": (384, 12.5),
    "A30": (3072, 2.43),
    "A40": (384, 14.5),
    "L4": (192, 12.5),
    "L40S": (384, 18),
    "A100-40GB": (5120, 2.43),
    "A100-80GB": (5120, 3.19),
    "H100": (5120, 5.23),
    "H200": (6144, 6.25),
    "B200": (8192, 8),
}
"""Bits of the memory's bus, and Gbit/s of each: of NVIDIA's architecture papers."""


def test_each_cards_memory_is_as_fast_as_its_bus() -> None:
    assert set(BUS) == set(known_cards())
    for card, (bits, gbit_per_s) in BUS.items():
        (gpu,) = parse_gpus(card)
        assert gpu.speed is not None
        assert gpu.speed.memory_bytes_per_s == pytest.approx(bits * gbit_per_s / 8 * GB, rel=0.03)


@pytest.mark.parametrize(
    ("name", "gb_per_s"),
    [
        ("NVIDIA A100-SXM4-80GB", 300),
        ("A100-80GB", 300),
        ("NVIDIA A100-PCIE-40GB", 0),
        ("NVIDIA A100 80GB PCIe", 0),
        ("NVIDIA H100 80GB HBM3", 450),
        ("NVIDIA GeForce RTX 4090", 0),
        ("NVIDIA L4", 0),
    ],
)
def test_cards_meet_over_nvlink_where_they_have_it(name, gb_per_s):
    known = known_card(name)
    assert known is not None
    assert known.speed is not None
    assert known.speed.nvlink_bytes_per_s == gb_per_s * GB
