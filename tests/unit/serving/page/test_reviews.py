"""The tab of the team: what a reviewer is shown and told, with a real gateway behind it."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("gradio")

import gradio as gr

from tasks.core.collected.review.queue import NewReview, decide
from tasks.core.collected.review.reading import read_collected
from tasks.core.collected.storage.directory import day_file
from tasks.core.collected.storage.records import line_of
from tasks.core.collected.storage.writing import append
from tasks.core.serving.page import words
from tasks.core.serving.page.review_tab import ReviewTab
from tasks.core.serving.page.reviews import NoReview, Reviews
from tests.collected import Kept, an_answer
from tests.unit.serving.gateway.world import Gateway, free_port

RINA, CLIENT = "rahasia-warung-rina", "rahasia-warung-hp"
KEYS = [{"name": "rina", "key": RINA, "reviewer": True}, {"name": "hp", "key": CLIENT}]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("gateway")
    keys = directory / "keys"
    keys.write_text(json.dumps(KEYS))
    keys.chmod(0o600)
    collected = str(directory / "collected")
    gateway = Gateway(directory, None, gateway={"keys_file": str(keys)}, collected=collected)
    yield gateway
    gateway.end()


@pytest.fixture
def kept(door: Gateway) -> Kept:
    kept = Kept(door.directory / "collected")
    for file in kept.directory.glob("*.jsonl"):
        file.unlink()
    return kept


class Team:
    """A reviewer at the tab: what stands on it now, by what is shown in it."""

    def __init__(self, url: str) -> None:
        self._loop, self._reviews = asyncio.Runner(), Reviews(f"{url}/v1")
        with gr.Blocks():
            self.tab = ReviewTab(self._reviews)
        self.now: dict[Any, Any] = {}

    def does(self, name: str, *words: Any) -> None:
        self.now |= self._loop.run(getattr(self.tab, name)(*words))

    def leaves(self) -> None:
        self._loop.run(self._reviews.close())
        self._loop.close()

    @property
    def told(self) -> str:
        return str(self.now[self.tab._notice].value)

    @property
    def shown(self) -> Any:
        return self.now.get(self.tab._open)

    @property
    def texts(self) -> list[str]:
        return [each["content"] for each in self.now[self.tab._chat]]


@pytest.fixture(scope="module")
def shared_team(door: Gateway) -> Iterator[Team]:
    """The tab keeps nothing; gradio takes 0.3 s of a core to make one."""
    team = Team(door.url)
    yield team
    team.leaves()


@pytest.fixture
def team(shared_team: Team) -> Team:
    """One that has not done anything yet."""
    shared_team.now = {}
    return shared_team


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("", words.NO_KEY_TYPED),
        ("tidak-dikenal-sama-sekali", words.KEY_UNKNOWN),
        ("kunci–dengan–tanda–lain", words.KEY_UNKNOWN),
        ("kunci\r\nX-Lain: ya", words.KEY_UNKNOWN),
        (CLIENT, words.NO_REVIEWER),
    ],
)
def test_without_a_reviewers_key_nothing_is_shown(team, kept, key, told):
    kept.answer("chatcmpl-1", "Bisa?", "Ya.")
    team.does("enter", key)
    assert (team.told, team.shown, team.texts) == (told, None, [])


def test_a_gateway_that_is_away_is_a_sentence(kept):
    team = Team(f"http://127.0.0.1:{free_port()}")
    team.does("enter", RINA)
    team.leaves()
    assert team.told == words.NO_REVIEW_NOW


def test_where_nothing_waits_it_is_said(team, kept):
    team.does("enter", RINA)
    assert team.told == words.NONE_WAIT


def test_a_decision_on_a_page_that_was_forgotten_changes_nothing(team, kept):
    kept.answer("chatcmpl-1", "Bisa?", "Ya.")
    team.does("accept", RINA, None, "Ya.")
    assert team.told == words.OPEN_AGAIN
    (found,) = read_collected(kept.directory)
    assert found.review is None


def test_an_answer_without_a_word_is_not_accepted_and_stays(team, kept):
    kept.answer("chatcmpl-1", "Bisa?", "Ya.")
    team.does("enter", RINA)
    team.does("accept", RINA, team.shown, "  ")
    assert team.told == words.NOTHING_TO_LEARN
    assert team.shown.item.id == "chatcmpl-1"


def test_what_another_reviewer_has_decided_meanwhile_is_not_decided_over(team, kept):
    kept.answer("chatcmpl-1", "Bisa?", "Ya.")
    team.does("enter", RINA)
    decide(kept.directory, NewReview("chatcmpl-1", "reject"), "joko")
    team.does("accept", RINA, team.shown, "Ya.")
    assert team.told == words.DECIDED_MEANWHILE
    (found,) = read_collected(kept.directory)
    assert found.review is not None
    assert found.review.reviewer == "joko"


def test_an_answer_that_was_deleted_meanwhile_is_told(team, kept):
    kept.answer("chatcmpl-1", "Bisa?", "Ya.")
    team.does("enter", RINA)
    for file in kept.directory.glob("*.jsonl"):
        file.unlink()
    team.does("reject", RINA, team.shown, "Ya.")
    assert team.told == words.GONE


def test_an_answer_that_was_cut_is_shown_as_one(team, kept):
    cut = an_answer("cut").model_copy(update={"cut": True})
    append(day_file(kept.directory, cut.time.date()), line_of(cut))
    team.does("enter", RINA)
    assert team.now[team.tab._verdict] == words.rated(None, cut=True)
    assert words.CUT in words.rated(None, cut=True)


def test_each_decision_shows_the_next_answer_the_worst_rated_first(team, kept):
    kept.answer("liked", "Satu?", "Baik.", rated="up")
    kept.answer("unrated", "Dua?", "Cukup.")
    kept.answer("disliked", "system:Ramah.", "Tiga?", "Buruk.", rated="down", correction="Bagus.")
    team.does("enter", RINA)
    tab = team.tab
    assert team.shown.item.id == "disliked"
    assert team.texts[1:] == ["Tiga?", "Buruk."]
    assert team.texts[0].endswith("Ramah.")
    assert team.now[tab._waiting] == words.waiting(3)
    assert team.now[tab._verdict] == words.RATED["down"]
    assert team.now[tab._correction].value == "Bagus."
    assert team.now[tab._answer] == "Buruk."
    team.does("accept", RINA, team.shown, "Bagus.")
    assert team.told == words.ACCEPTED
    assert team.shown.item.id == "unrated"
    assert team.now[tab._correction].visible is False
    team.does("skip", RINA, team.shown)
    assert team.shown.item.id == "liked"
    team.does("skip", RINA, team.shown)
    assert (team.shown.item.id, team.told) == ("unrated", words.FROM_THE_HEAD)
    team.does("accept", RINA, team.shown, "Cukup.")
    team.does("reject", RINA, team.shown, "Baik.")
    assert team.told == f"{words.REJECTED} {words.NONE_WAIT}"
    found = {each.answer.id: each.review for each in read_collected(kept.directory)}
    assert {name: (review.decision, review.answer) for name, review in found.items() if review} == {
        "disliked": ("accept", "Bagus."),
        "unrated": ("accept", None),
        "liked": ("reject", None),
    }


@pytest.mark.parametrize(
    ("key", "told"),
    [(" ", words.NO_KEY_TYPED), ("kunci\nkunci", words.KEY_UNKNOWN), ("é", words.KEY_UNKNOWN)],
)
def test_a_key_that_cannot_be_one_is_sent_to_nobody(key: str, told: str) -> None:
    with pytest.raises(NoReview, match=re.escape(told)):
        asyncio.run(Reviews("http://127.0.0.1:1/v1").next(key, None))
