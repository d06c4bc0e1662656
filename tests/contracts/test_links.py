"""Every link of the documentation leads somewhere: to a file of the project, to a heading in it.

Also every path of a source file that a page names. Addresses elsewhere are not asked: a test has no
network.
"""

import re
from functools import cache
from pathlib import Path

import pytest

from tasks.core.home import PROJECT

PAGES = sorted(
    [*PROJECT.glob("*.md"), PROJECT / "data" / "README.md", *(PROJECT / "docs").rglob("*.md")]
)
IDS = [str(page.relative_to(PROJECT)) for page in PAGES]

_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_INLINE_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(([^()\s]+)\)|<(?:img|a) [^>]*(?:src|href)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_PATH = re.compile(r"(?<![\w/.-])((?:[\w.-]+/)+[\w-]+\.(?:py|md|yaml|yml|json|png|css|j2|pem))\b")

_BELOW = {"docs/faults.md": ("tests",), "docs/inputs.md": ("tests",)}
"""Pages whose tables name files from there on."""
_ABOVE = ("", "tasks/core", "tasks", "docs", "tests/unit")
"""What a page may leave out before the path of a file."""
_NOT_OURS = re.compile(r"(?:^|/)my_|^ATen/|^(?:checkpoint|runtime)/")
"""A reader's own files, and those of other projects."""


def links(page: Path) -> list[str]:
    text = _INLINE_CODE.sub("", _FENCED.sub("", page.read_text()))
    found = [markdown or html for markdown, html in _LINK.findall(text)]
    return [link for link in found if not re.match(r"[a-z]+:", link)]


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    return frozenset(map(anchor, _HEADING.findall(_FENCED.sub("", page.read_text()))))


def anchor(heading: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def wrong_links(page: Path) -> list[str]:
    wrong = []
    for link in links(page):
        name, _, heading = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (heading and heading not in anchors(target)):
            wrong.append(link)
    return wrong


def named_paths(page: Path) -> list[str]:
    text = re.sub(r"[a-z]+://\S+", "", page.read_text())
    return sorted({path for path in _PATH.findall(text) if not _NOT_OURS.search(path)})


def is_there(path: str, page: str) -> bool:
    tops = (*_ABOVE, *_BELOW.get(page, ()), str(Path(page).parent))
    return any((PROJECT / top / path).exists() for top in tops)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    assert wrong_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    name = str(page.relative_to(PROJECT))
    assert [path for path in named_paths(page) if not is_there(path, name)] == []


def test_a_heading_has_githubs_anchor() -> None:
    assert anchor("What grows, and what bounds it") == "what-grows-and-what-bounds-it"
    assert anchor("`edit.rope_scaling`") == "editrope_scaling"
    assert anchor("Review (*Tinjauan*)") == "review-tinjauan"


def test_a_dead_link_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Here\n[a](#here) [b](#there) [c](gone.md) `[d](code.md)`\n")
    assert wrong_links(page) == ["#there", "gone.md"]
