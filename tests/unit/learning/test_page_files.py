from pathlib import Path

from tasks.core.keys import stage_key
from tasks.core.learning.page_files import remove_stale_pages, report_page
from tasks.core.store import Staging, Store


def put(home: Path, recipe: str, content: str) -> Path:
    page = report_page(home, recipe)
    page.parent.mkdir(exist_ok=True)
    page.write_text(content)
    return page


def quoting(reviewed_set: str) -> str:
    return f'<!doctype html>\n<meta name="reviewed-set" content="{reviewed_set}">\n<p>Apa itu NIB?'


def test_what_does_not_say_what_it_quotes_goes_too(tmp_path: Path) -> None:
    pages = [put(tmp_path, "a", ""), put(tmp_path, "b", "<p>Apa itu NIB?")]
    assert remove_stale_pages(tmp_path) == tuple(pages)
    assert not any(page.exists() for page in pages)


def test_a_page_stays_as_long_as_its_reviewed_set(tmp_path: Path) -> None:
    def write(staging: Staging) -> None:
        (staging.path / "reviews.json").write_text("{}")

    made = Store(tmp_path).build(stage_key("collected", 1, {}), write).artifact
    kept, gone = (
        put(tmp_path, "a", quoting(str(made.key))),
        put(tmp_path, "b", quoting("c-" + "0" * 20)),
    )
    other = tmp_path / "reports" / "a.html"
    other.write_text("the report of a rebuild")
    assert remove_stale_pages(tmp_path) == (gone,)
    assert kept.is_file()
    assert other.is_file()


def test_a_home_without_pages_or_store_is_none_the_worse(tmp_path: Path) -> None:
    assert remove_stale_pages(tmp_path) == ()
