"""What an article's steps ask, and what is read of their answers."""

import pytest

from tasks.core.serving.page import article

THREE = ["Kemasan 100 Gram", "Resep di Balik Bungkus", "Ketika Harga Naik"]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("Tentu, ini judulnya", "bukan JSON"),
        ('{"judul": ["a", "b", "c"]}', '"article"'),
        ('["a", "b", "c"]', '"article"'),
        ('{"article": "a"}', '"article"'),
        ('{"article": ["a", "b"]}', "2 judul"),
        ('{"article": ["a", "b", "c", "d"]}', "4 judul"),
        ('{"article": ["a", " ", "c"]}', "kosong"),
        ('{"article": ["a", 2, "c"]}', "bukan teks"),
    ],
)
def test_the_fault_of_an_answer_is_named(answer, fault):
    with pytest.raises(article.NotTitles, match=fault):
        article.read_titles(answer)


def test_the_answer_that_was_asked_for_is_read_as_it_is():
    assert article.read_titles(f'{{"article": {THREE}}}\n'.replace("'", '"')) == THREE


@pytest.mark.parametrize(
    "answer",
    [
        'Tentu! ```json\n{{"article": ["{}", "{}", "{}"]}}\n```'.format(*THREE),
        '{{"article": ["{}", "{}", "{}"'.format(*THREE),
        '{{"article": ["{}", "{}", "{}",]}}'.format(*THREE),
        "1. {}\n2. {}\n3. {}".format(*THREE),
        'Judulnya:\n- "{}"\n- **{}**\n- {}\n'.format(*THREE),
        '"{}", "{}", dan "{}"'.format(*THREE),
    ],
)
def test_titles_in_another_form_are_found_too(answer):
    assert article.find_titles(answer) == THREE


def test_an_answer_without_titles_holds_none():
    assert article.find_titles("Maaf, saya tidak mengerti.") == []
    assert article.find_titles("") == []


def test_a_conversation_is_read_as_it_was_written_down():
    messages = [
        {"role": "user", "content": "Pembeli sepi.\nHarus bagaimana?"},
        {"role": "assistant", "content": "Buat paket hemat:\n\n1. pagi\n2. sore"},
        {"role": "user", "content": "Baik."},
    ]
    assert article.read_conversation(article.written_down(messages)) == messages


def test_a_pasted_text_is_one_message_and_json_is_what_it_says():
    assert article.read_conversation(" Saya jualan es. \n") == [
        {"role": "user", "content": "Saya jualan es."}
    ]
    pasted = '[{"role": "system", "content": "x"}, {"role": "user", "content": "Saya jualan es."}]'
    assert article.read_conversation(pasted) == [{"role": "user", "content": "Saya jualan es."}]
    assert article.read_conversation(" \n ") == []


def test_the_prompts_are_those_of_the_evaluation():
    from tests.unit.serving.page.prompts import evaluation_prompt

    conversation = [
        {
            "role": "user",
            "content": "Saya jualan nasi bakar, pembelinya cuma ramai tanggal muda.",
        },
        {
            "role": "assistant",
            "content": "Coba buat paket hemat untuk tanggal tua dan tawarkan langganan makan siang "
            "ke kantor terdekat.",
        },
    ]
    assert article.summary_prompt(conversation) == evaluation_prompt("artikel-01")
    summary = "Pengguna ingin tahu cara mengatur stok toko kelontong agar barang tidak kedaluwarsa"
    assert article.titles_prompt(summary) == evaluation_prompt("artikel-02")
    title = "Lima Kebiasaan Kecil yang Membuat Pembukuan Warung Tetap Rapi"
    assert article.article_prompt(title) == evaluation_prompt("artikel-04")
