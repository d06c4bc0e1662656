"""The page as people use it: a real Chromium, at the width of a desktop and of a phone."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("gradio")
pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install -e '.[dev]'")

from playwright.sync_api import Page as Tab
from playwright.sync_api import Request, expect

from tasks.core.collected.review.reading import read_collected
from tasks.core.serving.page import words
from tests.collected import Kept
from tests.prefect_ui import HOW_TO_INSTALL, browser_page, chromium
from tests.unit.serving.gateway.world import Engine, Gateway, until
from tests.unit.serving.page.world import Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason=HOW_TO_INSTALL),
]

WIDTHS = {"desktop": 1280, "phone": 390}
SLOWLY = {"text": "satu dua tiga empat lima enam tujuh delapan " * 500, "pace_s": 0.1}
PICTURE = "Lihat ![gambar](http://192.0.2.1/siapa.png) dan <img src=http://192.0.2.1/x.png> ini."


@pytest.fixture(scope="module")
def browser() -> Iterator[Tab]:
    with browser_page(str(chromium())) as tab:
        expect.set_options(timeout=120_000)
        tab.set_default_timeout(120_000)
        yield tab


@pytest.fixture(params=WIDTHS)
def open_page(request: pytest.FixtureRequest, browser: Tab) -> Iterator[Callable[[str], Tab]]:
    """Return what opens the page, which must stay within its window and ask this machine alone."""
    asked: list[Request] = []
    blocked: list[Request] = []

    def was_asked(each: Request) -> None:
        asked.append(each)

    def was_blocked(each: Request) -> None:
        blocked.append(each)

    def opened(url: str) -> Tab:
        browser.set_viewport_size({"width": WIDTHS[request.param], "height": 844})
        browser.goto(url)
        browser.locator("#question textarea").wait_for()
        return browser

    browser.on("request", was_asked)
    browser.on("requestfailed", was_blocked)
    yield opened
    assert browser.evaluate("document.documentElement.scrollWidth") == WIDTHS[request.param]
    browser.remove_listener("request", was_asked)
    browser.remove_listener("requestfailed", was_blocked)
    reached = [each.url for each in asked if each not in blocked]
    assert {urlsplit(url).hostname for url in reached if not url.startswith("data:")} == {
        "127.0.0.1"
    }
    assert all("csp" in str(each.failure) for each in blocked if "192.0.2.1" in each.url)


def ask(tab: Tab, question: str) -> None:
    tab.locator("#question textarea").fill(question)
    tab.get_by_role("button", name=words.SEND, exact=True).click()


def answers(tab: Tab) -> Any:
    return tab.locator("#chat .bot.message")


def test_a_chat_is_streamed_and_stopped_and_the_generation_ends(open_page, page, scripted):
    scripted.answers(SLOWLY)
    tab = open_page(page.url)
    ask(tab, "Apa kabar?")
    expect(answers(tab).last).to_contain_text("satu dua tiga")
    assert scripted.state()["running"] == 1
    first = answers(tab).last.inner_text()
    expect(answers(tab).last).not_to_have_text(first)
    tab.get_by_role("button", name=words.STOP).first.click()
    until(lambda: scripted.state()["running"] == 0, within_s=10)
    expect(tab.get_by_text(words.STOPPED)).to_be_visible()
    expect(answers(tab).last).to_contain_text("satu dua")
    scripted.answers("jawaban lain")
    ask(tab, "Dan sekarang?")
    expect(answers(tab).last).to_contain_text("jawaban lain")
    conversation = scripted.state()["asked"][-1]["messages"]
    assert [each["role"] for each in conversation] == ["user", "assistant", "user"]
    assert conversation[1]["content"].startswith("satu dua")


def test_closing_the_page_ends_the_generation_of_a_real_model(
    browser, engine: Engine, gateway: Gateway, tmp_path
):
    page = Page(tmp_path, gateway.url)
    try:
        context = browser.context.browser.new_context()
        tab = context.new_page()
        tab.goto(page.url)
        ask(tab, "apa kabar")
        until(lambda: engine.state()["running"] == 1, within_s=120)
        context.close()
        until(lambda: engine.state()["running"] == 0, within_s=30)
    finally:
        page.end()


def test_an_example_is_asked_when_it_is_clicked(open_page, page, scripted):
    scripted.answers("baik")
    scripted.state()
    tab = open_page(page.url)
    card = tab.locator("#chat button.example").first
    question = card.inner_text()
    card.click()
    expect(answers(tab).last).to_contain_text("baik")
    tab.get_by_text(words.MORE_EXAMPLES).click()
    more = tab.locator("button.example.md").first
    other = more.inner_text()
    more.click()
    expect(answers(tab)).to_have_count(2)
    until(lambda: "baik" in answers(tab).last.inner_text())
    asked = [body["messages"][-1]["content"] for body in scripted.state()["asked"]]
    assert asked == [question, other]


def test_a_picture_in_an_answer_is_not_fetched(open_page, page, scripted):
    scripted.answers(PICTURE)
    tab = open_page(page.url)
    ask(tab, "Apa kabar?")
    expect(answers(tab).last).to_contain_text("ini.")


def test_a_long_word_code_or_a_wide_table_does_not_widen_the_page(open_page, page, scripted):
    row = "|" + " kolom |" * 20
    wide = (
        f"{'a' * 300} `{'b' * 300}`\n\n    {'c' * 300}\n\n{row}\n|{'---|' * 20}\n{row}\n\nselesai"
    )
    scripted.answers(wide)
    tab = open_page(page.url)
    ask(tab, "x" * 300)
    expect(answers(tab).last).to_contain_text("selesai")


def test_what_goes_wrong_is_a_sentence_and_the_question_comes_back(open_page, page, scripted):
    scripted.answers({"text": "overloaded", "status": 429, "retry_after": "5"}, "baik")
    tab = open_page(page.url)
    ask(tab, "Apa kabar?")
    expect(tab.get_by_text("sedang sibuk. Silakan coba lagi dalam 5 detik")).to_be_visible()
    expect(tab.locator("#question textarea")).to_have_value("Apa kabar?")
    expect(answers(tab)).to_have_count(0)
    tab.get_by_role("button", name=words.SEND, exact=True).click()
    expect(answers(tab).last).to_contain_text("baik")
    expect(tab.get_by_text("sedang sibuk")).to_have_count(0)


def test_a_conversation_beyond_the_context_goes_on_and_says_so(
    open_page, engine, gateway, tmp_path, model_text
):
    page = Page(tmp_path, gateway.url)
    try:
        tab = open_page(page.url)
        tab.get_by_text(words.SETTINGS).first.click()
        tab.get_by_role("spinbutton", name=words.LENGTH).first.fill("32")
        for number, word in enumerate(("satu ", "dua ", "tiga ")):
            ask(tab, word * 200)
            expect(tab.locator("#chat .user.message")).to_have_count(number + 1)
            # What comes first of an answer takes the button away, which may be drawn a bit later.
            expect(answers(tab).nth(number)).not_to_have_text("…")
            expect(tab.get_by_role("button", name=words.SEND, exact=True)).to_be_visible()
        expect(tab.get_by_text("pesan paling awal tidak lagi dibaca")).to_be_visible()
        asked = model_text(engine.state()["asked"][-1]["prompt"])
        assert "satu satu" not in asked
        assert "tiga tiga" in asked
    finally:
        page.end()


def test_an_article_is_made_step_by_step_and_each_can_be_edited(open_page, page, scripted):
    scripted.answers(
        "Penjual ingin pembeli.",
        "bukan JSON",
        '{"article": ["Satu", "Dua", "Tiga"]}',
        "Isi artikel",
    )
    scripted.state()
    tab = open_page(page.url)
    tab.get_by_role("tab", name=words.ARTICLE_TAB).click()
    tab.get_by_role("button", name=words.EXAMPLE_CONVERSATION).click()
    conversation = tab.locator("#conversation textarea")
    expect(conversation).to_have_value(with_("nasi bakar"))
    tab.get_by_role("button", name=words.MAKE_SUMMARY).click()
    summary = tab.locator("#summary textarea")
    expect(summary).to_have_value("Penjual ingin pembeli.")
    expect(tab.locator("#stop-article")).to_be_hidden()  # what is written until then is replaced
    summary.fill("Penjual nasi bakar ingin pembeli.")
    tab.get_by_role("button", name=words.MAKE_TITLES).click()
    tab.locator("#titles label", has_text="Dua").click()
    title = tab.locator("#title textarea, #title input")
    expect(title).to_have_value("Dua")
    title.fill("Dua Cara")
    tab.get_by_role("button", name=words.MAKE_ARTICLE).click()
    expect(tab.locator("#article textarea")).to_have_value("Isi artikel")
    prompts = [body["messages"][-1]["content"] for body in scripted.state()["asked"]]
    assert "nasi bakar" in prompts[0]
    assert "Penjual nasi bakar ingin pembeli." in prompts[1]
    assert "bukan JSON yang benar" in prompts[2]
    assert 'dengan judul "Dua Cara"' in prompts[3]


def test_an_article_is_stopped_and_what_is_written_stays(open_page, page, scripted):
    scripted.answers(SLOWLY)
    tab = open_page(page.url)
    tab.get_by_role("tab", name=words.ARTICLE_TAB).click()
    tab.locator("#title textarea, #title input").fill("Judul")
    tab.get_by_role("button", name=words.MAKE_ARTICLE).click()
    expect(tab.locator("#article textarea")).to_have_value(with_("satu dua tiga"))
    tab.locator("#stop-article").click()
    until(lambda: scripted.state()["running"] == 0, within_s=10)
    expect(tab.get_by_text(words.STOPPED)).to_be_visible()
    expect(tab.locator("#article textarea")).to_have_value(with_("satu dua tiga"))


def texts_in(directory: Path) -> str:
    return "".join(path.read_text() for path in directory.glob("*.jsonl"))


def test_without_consent_nothing_is_kept_and_no_judgement_is_offered(
    open_page, keeping_page, collected
):
    tab = open_page(keeping_page.url)
    expect(tab.locator("#agrees input")).not_to_be_checked()
    ask(tab, "Apa itu rahasia dagang?")
    expect(tab.get_by_role("button", name=words.STOP)).to_have_count(0)
    expect(answers(tab)).to_have_count(1)
    expect(tab.get_by_text(words.JUDGE)).to_have_count(0)
    expect(tab.locator("#delete-mine")).to_have_count(0)
    assert tab.evaluate("JSON.stringify(localStorage)").count("kawan-usaha-izin") <= 1
    assert "rahasia dagang" not in texts_in(collected)


def test_what_somebody_allows_is_kept_judged_and_deleted_by_a_button(
    open_page, keeping_page, collected
):
    tab = open_page(keeping_page.url)
    tab.locator("#agrees input").check()
    expect(tab.locator("#delete-mine")).to_be_visible()
    mine = tab.locator("#own-row code").inner_text().replace(" ", "")
    ask(tab, "Nama saya Siti, WA 0812-3456-7890. Apa itu NIB?")
    expect(tab.get_by_text(words.CONSENT)).to_be_visible()
    tab.locator("#bad").click()
    expect(tab.get_by_text(words.THANKS)).to_be_visible()
    tab.locator("#correction textarea").fill("NIB adalah Nomor Induk Berusaha, Siti.")
    tab.get_by_role("button", name=words.SEND_CORRECTION).click()
    expect(tab.get_by_text(words.THANKS_CORRECTION)).to_be_visible()

    (kept,) = read_collected(collected)
    assert kept.answer.messages[-1].content == "Nama saya [nama], WA [telepon]. Apa itu NIB?"
    assert kept.answer.build == "b1"
    assert kept.rating is not None
    assert kept.rating.verdict == "down"
    assert kept.rating.correction == "NIB adalah Nomor Induk Berusaha, [nama]."
    assert mine not in texts_in(collected)

    tab = open_page(keeping_page.url)  # the browser remembers
    expect(tab.locator("#agrees input")).to_be_checked()
    expect(tab.locator("#own-row code")).to_have_text(with_(mine[:5]))
    tab.locator("#delete-mine").click()
    expect(tab.get_by_text(words.deleted(1))).to_be_visible()
    expect(tab.locator("#agrees input")).not_to_be_checked()
    assert list(read_collected(collected)) == []


def test_where_nothing_is_collected_the_page_asks_for_no_consent(open_page, scripted, tmp_path):
    scripted.answers("baik")
    page = Page(tmp_path, scripted.url)
    try:
        tab = open_page(page.url)
        ask(tab, "Apa kabar?")
        expect(answers(tab).last).to_contain_text("baik")
        expect(tab.locator("#agrees")).to_have_count(0)
        for name in (words.GOOD, words.BAD, words.SEND_CORRECTION):
            expect(tab.get_by_role("button", name=name)).to_have_count(0)
        assert all("store" not in body for body in scripted.state()["asked"])
    finally:
        page.end()


ENGLISH = ("Submit", "Clear", "Share", "Settings", "Built with", "Loading", "Stop", "Copy", "Retry")


def test_nothing_on_the_page_is_english(open_page, page, scripted):
    scripted.answers("baik")
    tab = open_page(page.url)
    ask(tab, "Apa kabar?")
    expect(answers(tab).last).to_contain_text("baik")
    words_of_page = tab.evaluate(
        """() => [...document.querySelectorAll('body *')]
             .filter(e => e.checkVisibility())
             .flatMap(e => [e.title, e.ariaLabel, e.placeholder, ...[...e.childNodes]
               .filter(n => n.nodeType === 3).map(n => n.textContent)])
             .filter(Boolean).map(t => t.trim()).filter(Boolean)"""
    )
    found = [text for text in words_of_page for english in ENGLISH if english in text.split()]
    assert found == []


def with_(part: str) -> Any:
    import re

    return re.compile(re.escape(part))


def test_a_reviewer_reads_edits_and_accepts(open_page, tmp_path):
    key = "rahasia-warung-rina"
    kept, keys = Kept(tmp_path / "collected"), tmp_path / "keys"
    kept.answer("chatcmpl-1", f"Bisa {'a' * 300}?", "Baik.")
    kept.answer("chatcmpl-2", "Izin apa?", PICTURE, rated="down", correction="Cukup NIB.")
    keys.write_text(json.dumps([{"name": "rina", "key": key, "reviewer": True}]))
    keys.chmod(0o600)
    collected = str(kept.directory)
    door = Gateway(tmp_path, None, gateway={"keys_file": str(keys)}, collected=collected)
    page = Page(tmp_path, door.url, kept_days=90)
    try:
        tab = open_page(page.url)
        tab.get_by_role("tab", name=words.REVIEW_TAB).click()
        tab.get_by_label(words.REVIEW_KEY).fill("bukan-kunci-yang-benar")
        tab.get_by_role("button", name=words.REVIEW_OPEN, exact=True).click()
        expect(tab.get_by_text(words.KEY_UNKNOWN)).to_be_visible()
        tab.get_by_label(words.REVIEW_KEY).fill(key)
        tab.get_by_role("button", name=words.REVIEW_OPEN, exact=True).click()
        expect(tab.locator("#reviewed .bot.message")).to_contain_text("ini.")
        tab.get_by_role("button", name=words.TAKE_CORRECTION).click()
        learned = tab.locator("#learned textarea")
        expect(learned).to_have_value("Cukup NIB.")
        learned.fill("Cukup NIB, gratis.")
        tab.get_by_role("button", name=words.ACCEPT, exact=True).click()
        expect(learned).to_have_value("Baik.")
        tab.get_by_role("button", name=words.REJECT, exact=True).click()
        expect(tab.get_by_text(words.NONE_WAIT)).to_be_visible()
        expect(tab.locator("#review")).to_be_hidden()
    finally:
        page.end()
        door.end()
    found = {each.answer.id: each.review for each in read_collected(kept.directory)}
    assert {name: (made.decision, made.answer) for name, made in found.items() if made} == {
        "chatcmpl-1": ("reject", None),
        "chatcmpl-2": ("accept", "Cukup NIB, gratis."),
    }
