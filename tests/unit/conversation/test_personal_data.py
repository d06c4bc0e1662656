import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.conversation.personal_data import (
    find_personal_data,
    is_card_number,
    is_identity_number,
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
    ],
)
def test_figures_and_examples_of_a_business_are_no_personal_data(text: str) -> None:
    assert find_personal_data(text) is None


@given(st.text("0123456789", min_size=12, max_size=18).filter(lambda d: len(set(d)) > 1))
def test_one_check_digit_of_ten_makes_a_card_number(digits: str) -> None:
    assert sum(is_card_number(digits + check) for check in "0123456789") == 1


def test_an_identity_number_holds_a_date_of_birth() -> None:
    assert is_identity_number("3174013112900001")
    assert is_identity_number("3174017112900001")  # a woman's: 40 is added to the day
    assert not is_identity_number("3174013113900001")  # month 13
    assert not is_identity_number("3174013102900001")  # 31 February
    assert not is_identity_number("0174013112900001")  # no such province
