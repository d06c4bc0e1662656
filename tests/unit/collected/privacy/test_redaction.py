"""What points at a person does not survive: over generated numbers, spellings and introductions."""

import re
import time

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import luhn

from tasks.core.collected.privacy.redaction import (
    NAME_PLACEHOLDER,
    names_in,
    redacted,
    redacted_messages,
)
from tasks.core.collected.storage.records import CollectedMessage

DIGITS = "0123456789"
NOBODY: frozenset[str] = frozenset()

prefixes = st.sampled_from(["812", "813", "821", "852", "857", "878", "895", "811"])
mobiles = st.tuples(prefixes, st.text(DIGITS, min_size=7, max_size=8)).map("".join)
ways_to_divide = st.sampled_from([" ", "-", ".", "", "–", "\u00a0", " - "])
ways_to_begin = st.sampled_from(["0", "+62", "+62 ", "+62-", "62", "62 ", "0062 ", "+62 (0)"])
before = st.sampled_from(
    ["", "WA ", "WA: ", "hubungi saya di ", "no hp", "https://wa.me/", "(", "3 "]
)
behind = st.sampled_from(["", ".", ", terima kasih", ")", " ya", "\n", " Rp 50.000"])


@st.composite
def phones(draw: st.DrawFn) -> str:
    number, between = draw(mobiles), draw(ways_to_divide)
    groups = [number[:3], number[3:7], number[7:]]
    return draw(ways_to_begin) + between.join(groups)


@st.composite
def cards(draw: st.DrawFn) -> str:
    issuer = draw(st.sampled_from(["4", "51", "5264", "34", "3530", "6011", "1946", "2223"]))
    size = 15 if issuer == "34" else draw(st.sampled_from([16, 19]))
    body = issuer + draw(st.text(DIGITS, min_size=size - 1, max_size=size - 1))
    number = body[: size - 1]
    number += luhn.calc_check_digit(number)
    between = draw(st.sampled_from(["", " ", "-"]))
    return between.join(re.findall(".{1,4}", number)) if size == 16 else number


@st.composite
def niks(draw: st.DrawFn) -> str:
    region = draw(st.sampled_from(["317401", "327306", "357801", "120101", "950101", "920171"]))
    day = draw(st.integers(1, 28)) + draw(st.sampled_from([0, 40]))
    month, year = draw(st.integers(1, 12)), draw(st.integers(0, 99))
    serial = draw(st.integers(1, 9999))
    parts = [region, f"{day:02}{month:02}{year:02}", f"{serial:04}"]
    return draw(st.sampled_from(["", " ", "-", "."])).join(parts)


@st.composite
def npwps(draw: st.DrawFn) -> str:
    body = draw(st.text(DIGITS, min_size=8, max_size=8).filter(lambda d: len(set(d)) > 2))
    body += luhn.calc_check_digit(body)
    body += draw(st.text(DIGITS, min_size=6, max_size=6))
    dotted = f"{body[:2]}.{body[2:5]}.{body[5:8]}.{body[8]}-{body[9:12]}.{body[12:]}"
    return draw(st.sampled_from([body, dotted, f"0{body}", f"0{dotted}"]))


emails = st.tuples(
    st.text("abcdefghij.+_-'é0123456789", min_size=1, max_size=20),
    st.sampled_from(["gmail.com", "tokoku.co.id", "surel.id", "a-b.xn--p1ai", "Yahoo.CO.ID"]),
).map("@".join)

names = st.sampled_from(
    [
        "Budi",
        "Siti Aminah",
        "Dewi Sartika Putri",
        "Nur'aini",
        "Ahmad bin Salim",
        "Ucok",
        "Li",
        "Øystein",
        "M. Yusuf",
    ]
)
introductions = st.sampled_from(
    [
        "Nama saya {}.",
        "nama saya {}, mau tanya soal pajak",
        "Halo, perkenalkan saya {} dari Bandung",
        "perkenalkan, nama saya {}.",
        "aku {}, jualan kue",
        "Saya {}. Bisa bantu?",
        "panggil saya {} saja",
        "panggil saja {}",
        "My name is {}, I sell coffee",
        "Hi, I'm {} and I sell coffee",
        "Nama: {}\nUsaha: kue",
        "Saya Ibu {}, punya warung",
        "Tolong bantu saya.\nTerima kasih,\n{}",
    ]
)


def digits_of(text: str) -> str:
    return "".join(filter(str.isdigit, text))


@given(before, phones(), behind)
def test_no_indonesian_phone_number_survives(lead: str, phone: str, end: str) -> None:
    left = redacted(f"{lead}{phone}{end}", NOBODY)
    assert digits_of(phone)[-8:] not in digits_of(left)
    assert not re.search(r"\d{4}", left.replace("50.000", ""))
    assert "[telepon]" in left


def test_no_phone_number_of_another_country_survives() -> None:
    of_a_mobile = phonenumbers.PhoneNumberType.MOBILE
    forms = phonenumbers.PhoneNumberFormat.E164, phonenumbers.PhoneNumberFormat.INTERNATIONAL
    tried = 0
    for region in phonenumbers.SUPPORTED_REGIONS:
        number = phonenumbers.example_number_for_type(region, of_a_mobile)
        if number is None or len(phonenumbers.national_significant_number(number)) < 7:
            continue
        for form in forms:
            text = f"WA saya {phonenumbers.format_number(number, form)} ya"
            assert redacted(text, NOBODY) == "WA saya [telepon] ya", text
            tried += 1
    assert tried > 400


@given(before, cards(), behind)
def test_no_card_number_survives(lead: str, card: str, end: str) -> None:
    left = redacted(f"kartu {lead}{card}{end}", NOBODY)
    assert digits_of(card)[-8:] not in digits_of(left)
    assert "[" in left


@given(niks(), behind)
def test_no_nik_survives(nik: str, end: str) -> None:
    left = redacted(f"NIK saya {nik}{end}", NOBODY)
    assert digits_of(nik)[-8:] not in digits_of(left)
    assert "[NIK]" in left


@given(npwps(), behind)
def test_no_npwp_survives(npwp: str, end: str) -> None:
    left = redacted(f"NPWP {npwp}{end}", NOBODY)
    assert digits_of(npwp)[-8:] not in digits_of(left)
    assert "[" in left


@given(before, emails, behind)
def test_no_mail_address_survives(lead: str, email: str, end: str) -> None:
    left = redacted(f"surel {lead}{email}{end}", NOBODY)
    assert "@" not in left
    assert email.split("@")[1] not in left


@given(introductions, names)
def test_a_name_that_was_given_survives_nowhere_in_the_conversation(how: str, name: str) -> None:
    messages = [
        CollectedMessage(role="user", content=f"Sebelum ini {name} sudah pernah bertanya."),
        CollectedMessage(role="assistant", content="Silakan."),
        CollectedMessage(role="user", content=how.format(name)),
    ]
    found = names_in(messages)
    texts = [each.content for each in redacted_messages(messages, found)]
    texts.append(redacted(f"Halo {name.upper()}, senang bertemu, Pak {name}!", found))
    words = [word for word in re.findall(r"[^\W\d_]+", name) if len(word) > 2] or [name]
    for text, word in ((text, word) for text in texts for word in words):
        assert not re.search(rf"\b{word}\b", text, re.IGNORECASE), text
    assert NAME_PLACEHOLDER in texts[0]
    assert NAME_PLACEHOLDER in texts[2]


@pytest.mark.parametrize(
    "text",
    [
        "Harga Rp 1.250.000 dan Rp2.500.000,00, omzet 62.800.000.000 setahun",
        "Tanggal 08-12-2026 pukul 10.30, atau 2026-12-08; buka 08.00-17.00 dan 09.00 - 12.00",
        "Pesanan INV/20261130/MPL/1234567, nomor 8123456789, resi JP1234567890",
        "PP 55 Tahun 2022, Pasal 7 ayat (2), KBLI 56101, kode pos 40115",
        "Saya mau tanya, saya jualan kue. Saya Muslim, saya PNS. I'm looking for capital.",
        "Laba saya Rp88.777.666, modal saya Rp 5 juta dan utang saya IDR 200.000.",
        "Aku ingin tahu: apakah 0,5% dari 500.000.000 itu 2.500.000?",
        "Panggil saya kapan saja. Nama toko apa yang bagus?",
        "tahun 2023 2024 2025 2026; 10 x 25.000 = 250.000",
        "Hubungi Kring Pajak 1500200 atau tulis ke contoh@example.com",
    ],
)
def test_prices_dates_and_order_numbers_stay(text: str) -> None:
    assert redacted(text, names_in([CollectedMessage(role="user", content=text)])) == text


@pytest.mark.parametrize(
    "text",
    [
        "Nama ku Putri",
        "nama ku putri, jualan kue",
        "aku putri dari Bandung",
        "Halo, saya putri mau tanya",
        "selamat pagi kak, saya putri. bisa bantu?",
        "Assalamualaikum, saya ibu putri",
    ],
)
def test_a_name_in_small_letters_is_found_where_a_message_begins_with_it(text: str) -> None:
    assert names_in([CollectedMessage(role="user", content=text)]) == {"putri"}


@pytest.mark.parametrize(
    "text",
    [
        "saya rugi terus bulan ini",
        "saya menjahit baju, berapa harganya?",
        "halo, aku kesulitan bayar pajak",
        "Saya dibantu kakak, modal dari mana?",
        "usaha saya sepi, bagaimana?",
    ],
)
def test_what_people_do_or_feel_is_no_name(text: str) -> None:
    assert names_in([CollectedMessage(role="user", content=text)]) == NOBODY


def test_names_of_others_than_the_person_are_not_taken_from_the_answers() -> None:
    messages = [
        CollectedMessage(role="system", content="Nama saya Kawan."),
        CollectedMessage(role="assistant", content="Perkenalkan, saya Kawan Usaha."),
    ]
    assert names_in(messages) == frozenset()


def test_what_was_redacted_once_stays_as_it_is() -> None:
    once = redacted("Saya Budi, WA 0812-3456-7890, budi@gmail.com", frozenset({"budi"}))
    assert once == "Saya [nama], WA [telepon], [email]"
    assert redacted(once, frozenset({"budi"})) == once


@pytest.mark.parametrize(
    "text",
    [
        "1 " * 10_000,
        "0 8 1 2 " * 1_000,
        "saya Budi " * 100_000,
        "halo , " * 100_000,
        "halo" + " ," * 100_000,
        "assalam" * 100_000,
        "terima kasih\n" + " " * 1_000_000 + "x",
        "@a." * 300_000,
    ],
    ids=[
        "digits",
        "phones",
        "introductions",
        "greetings",
        "a greeting",
        "letters",
        "spaces",
        "addresses",
    ],
)
def test_a_hostile_text_ends(text: str) -> None:
    """Quadratic time would take days here; a slow machine takes some seconds."""
    begun = time.process_time()
    redacted(text, names_in([CollectedMessage(role="user", content=text)]))
    assert time.process_time() - begun < 600
