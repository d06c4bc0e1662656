from itertools import pairwise

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.conversation.personal_data.find import find_personal_data, personal_spans
from tasks.core.conversation.personal_data.numbers import (
    _is_phone,
    is_card_number,
    is_identity_number,
    number_spans,
)


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


@pytest.mark.parametrize("text", ["0 1 ", "0 8 ", "62 ", "62 0 ", "08 12 ", "+1 2 3 4 5 6 7 8 9 "])
def test_a_text_of_nothing_but_digits_asks_little_of_the_library(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 kB of `0 1 ` were 45,000 numbers to parse: eight seconds in which nothing else ran."""
    parsed, parse = [], phonenumbers.parse

    def counted(number: str, region: str | None = None) -> object:
        parsed.append(number)
        return parse(number, region)

    monkeypatch.setattr(phonenumbers, "parse", counted)
    of_2_kb = text * (2000 // len(text))
    list(number_spans(of_2_kb))
    assert len(parsed) <= 30 * len(of_2_kb) // 100


@given(st.sampled_from(["", "+62", "+620"]), st.from_regex(r"(?a:[1-9]\d{7,13})", fullmatch=True))
def test_a_number_of_this_country_is_one_where_the_library_says_so(start: str, rest: str) -> None:
    digits = f"{start.removeprefix('+')}{rest}" if start else f"0{rest}"
    number = phonenumbers.parse(f"+62{rest}")
    is_one = 9 <= len(digits) <= 17 and phonenumbers.is_valid_number(number)
    assert _is_phone("+" if start else "", digits) == is_one


@given(st.text("0123456789 .-()+", max_size=200))
def test_spans_are_in_order_and_do_not_overlap(text: str) -> None:
    spans = personal_spans(text)
    assert all(one.end <= two.start for one, two in pairwise(spans))
    assert all(0 <= each.start < each.end <= len(text) for each in spans)
