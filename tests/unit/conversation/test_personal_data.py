from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.conversation.personal_data import find_personal_data, personal_spans
from tasks.core.conversation.personal_numbers import is_card_number, is_identity_number


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Tulis ke budi.santoso+toko@gmail.com ya.", "an e-mail address"),
        ("WA saya 0812-3456-7890", "a phone number"),
        ("WA saya 081234567890.", "a phone number"),
        ("(0812) tidak, +62 812 3456 7890", "a phone number"),
        ("628123456789 aktif", "a phone number"),
        ("0812.3456.7890", "a phone number"),
        ("telepon +1 (415) 555-2671", "a phone number"),
        ("kartu 4111 1111 1111 1111", "a card number"),
        ("kartu 378282246310005", "a card number"),
        ("NIK 3174015506900001", "an identity number"),
        ("NIK 9501015506900001 dari Papua Pegunungan", "an identity number"),
        ("NPWP 01.312.166.0-091.000", "a tax number"),
        ("kantor (021) 5551234", "a phone number"),
        ("wa.me/6281234567890", "a phone number"),
        ("wa saya 812-3456-7890", "a phone number"),
        ("０８１２３４５６７８９０", "a phone number"),
    ],
)
def test_personal_data_is_found_and_shortened(text: str, kind: str) -> None:
    found = find_personal_data(text)
    assert found is not None
    assert found.startswith(kind)
    digits = "".join(filter(str.isdigit, text))
    assert len("".join(filter(str.isdigit, found))) <= 4 or not digits
    assert "budi" not in found


@pytest.mark.parametrize(
    "text",
    [
        "Omzet Rp 62.800.000.000 setahun, laba 1.250.000.000.000.",
        "Rp0,5 juta; 08.00 sampai 17.00; tanggal 2024-08-17",
        "Pasal 7 ayat (2) PP 55/2022, berlaku 2023-2026",
        "Hubungi Kring Pajak di 1500200",
        "Kode 1234567890123 tidak lolos uji",
        "NIB terdiri dari 13 angka",
        "contoh: nama@example.com atau nama@toko.example",
        "4 + 62 = 66, a@b",
        "tanggal 08-12-2026 10:30, buka 08.00-17.00",
        "pesanan 8123456789, faktur 20261130000123",
        "tahun 2023 2024 2025 2026",
        "harga Rp 1.250.000 - Rp 2.500.000",
    ],
)
def test_figures_and_examples_of_a_business_are_no_personal_data(text: str) -> None:
    assert find_personal_data(text) is None


def _differ(digits: str) -> bool:
    return len(set(digits)) > 1


@given(st.text("0123456789", min_size=14, max_size=17).map("5".__add__).filter(_differ))
def test_one_check_digit_of_ten_makes_a_card_number(digits: str) -> None:
    assert sum(is_card_number(digits + check) for check in "0123456789") == 1


def test_an_identity_number_holds_a_date_of_birth() -> None:
    assert is_identity_number("3174013112900001")
    assert is_identity_number("3174017112900001")  # a woman's: 40 is added to the day
    assert not is_identity_number("3174013113900001")  # month 13
    assert not is_identity_number("3174013102900001")  # 31 February
    assert not is_identity_number("0174013112900001")  # no such province


def test_of_two_numbers_beside_each_other_no_digit_is_left() -> None:
    for between in (" ", " / ", "-"):
        text = f"021 555{between}0812-3456-7890{between}0813 2222 3333"
        spans = personal_spans(text)
        left = [c for at, c in enumerate(text) if not any(s.start <= at < s.end for s in spans)]
        assert not any(map(str.isdigit, left))


@given(st.text("0123456789 .-()+", max_size=200))
def test_spans_are_in_order_and_do_not_overlap(text: str) -> None:
    spans = personal_spans(text)
    assert all(one.end <= two.start for one, two in pairwise(spans))
    assert all(0 <= each.start < each.end <= len(text) for each in spans)
