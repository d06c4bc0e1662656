"""From a talk to a better model: people talk, agree or not, correct; the team reviews; it learns.

Real commands build a tiny model and serve it with its page. All that they write lies below one
directory, with HOME, TMPDIR, Prefect's database and every log, and is searched to the last byte.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import pytest
import yaml

from tasks.core.home import PROJECT
from tasks.core.serving.client.key_variables import API_KEY_VARIABLE
from tasks.core.serving.launch.ending import stop
from tasks.core.serving.page import words
from tasks.core.serving.state.directory import state_directory
from tests.byte_search import files_with
from tests.e2e.shop import KEYS, NAME, Shop, a_model_that_learns, conversation, recipe_in
from tests.likelihood import Pair, Released

pytest.importorskip("gradio")

pytestmark = pytest.mark.slow

UNCONSENTED = ("zaitunungu", "Rp88.777.666")
"""Stand in a talk of somebody who did not agree, and nowhere else."""
PERSONAL = ("Sulastriningsih", "sulastri.w@contoh.co.id", "0812-3456-7890", "81234567890")
"""What somebody who agreed has told of herself: a name, an address, a number."""
SHE_SAYS = f"Nama saya {PERSONAL[0]}, {PERSONAL[1]}, WA {PERSONAL[2]}. "
CONSENTED = ("Berapa modal jual kopi", "Modal jual kopi bisa dari KUR")
"""Stand in a talk of somebody who agreed: a question, and the answer that it should have had."""
BUDIS = "keripikmelinjo"
"""Stands in all that one person has said, who wants it forgotten later."""
GOODS = ("kopi", "teh", "gula", "beras", "telur", "madu", "susu", "roti", "kue", "sabun", "lilin")
BUDIS_GOODS = [f"{BUDIS} {taste}" for taste in ("asin", "manis", "pedas", "hijau", "besar")]

LEARNED = f"[{{collected: {NAME}}}]"
BY_PREFERENCE = ("finetune.method=dpo", f"finetune.data={LEARNED}", "finetune.max_steps=30")
BY_ANSWERS = ("finetune.method=sft", f"finetune.data={LEARNED}", "finetune.max_steps=40")


def question(good: str) -> str:
    return f"Berapa modal jual {good}?"


def corrected(good: str) -> str:
    return f"Modal jual {good} bisa dari KUR di bank terdekat."


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A tiny model that serves, with a page, and collects where people agree."""
    root = tmp_path_factory.mktemp("people")
    places = {
        "HOME": "user",
        "TMPDIR": "tmp",
        "XDG_CACHE_HOME": "user/.cache",
        "HF_HOME": "user/hf",
        "PREFECT_HOME": "prefect",
        "KAWAN_USAHA_HOME": "home",
        "KAWAN_USAHA_LOCKS": "locks",
    }
    for place in places.values():
        (root / "mine" / place).mkdir(mode=0o700, parents=True, exist_ok=True)
    records = [conversation(n, f"Halo nomor {n}?", f"Nomor {n} di warung.") for n in range(8)]
    (root / "data.json").write_text(json.dumps(records))
    (root / "held_out.json").write_text(json.dumps([conversation(9, "Halo?", "Halo juga.")]))
    (root / "prompts.json").write_text(json.dumps([{"id": "p", "prompt": "Apa itu NIB?"}]))
    a_model_that_learns(root / "base")
    keys = [{"name": name, "key": key, "reviewer": name == "rina"} for name, key in KEYS.items()]
    (root / "keys.json").write_text(json.dumps(keys))
    (root / "keys.json").chmod(0o600)
    recipe = root / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(recipe_in(root)))
    environ = {
        **{name: value for name, value in os.environ.items() if "PREFECT" not in name},
        **{name: str(root / "mine" / place) for name, place in places.items()},
        API_KEY_VARIABLE: KEYS["halaman"],
        "PYTHONPATH": str(PROJECT),
    }
    shop = Shop(root / "mine", environ)
    try:
        shop.kawan_usaha("rebuild", str(recipe))
        yield shop
    finally:
        if state_directory(shop.home, NAME).root.exists():
            stop(shop.home, NAME)


@dataclass(frozen=True)
class Talks:
    """What was said on the page, by the end of a day."""

    first: Released
    budi: str
    told: set[str]


@pytest.fixture(scope="module")
def talks(shop: Shop) -> Talks:
    siti, budi, nobody = shop.visitor(), shop.visitor(), shop.visitor()
    siti.agree()
    budi.agree()
    told = set[str]()
    for visitor, goods in ((siti, GOODS), (budi, BUDIS_GOODS)):
        for good in goods:
            visitor.ask(question(good))
            told |= {visitor.dislike(), visitor.correct(corrected(good))}
    siti.ask(f"{SHE_SAYS}Izin apa untuk warung?")
    told.add(siti.correct(f"Cukup NIB, Bu {PERSONAL[0]}; kami tulis ke {PERSONAL[1]}."))
    nobody.ask(f"Saya menjual {UNCONSENTED[0]}, laba saya {UNCONSENTED[1]}. Bagus?")
    return Talks(shop.served(), budi.mine["id"], told)


@pytest.fixture(scope="module")
def reviewed(shop: Shop, talks: Talks) -> list[Pair]:
    """What the team accepts: all but the last by its API, that one by the command."""
    with shop.reviewer() as rina:
        waiting = rina.get("/reviews", params={"limit": 100}).raise_for_status().json()["data"]
        first, *others = waiting
        for each in others:
            decision = {"id": each["id"], "decision": "accept", "answer": each["correction"]}
            rina.post("/reviews", json=decision).raise_for_status()
    text = shop.written / "tmp" / "answer.txt"
    text.write_text(first["correction"])
    shop.kawan_usaha("data", "review", NAME, "--accept", first["id"], "--answer-file", str(text))
    return [Pair(e["messages"][-1]["content"], e["answer"], e["correction"]) for e in waiting]


@pytest.fixture(scope="module")
def by_preference(shop: Shop, reviewed: list[Pair]) -> Released:
    """The release after the first lesson, in which an answer may only be liked more or less."""
    return shop.learn(*BY_PREFERENCE, max_ratio=1e6)


@pytest.fixture(scope="module")
def by_answers(shop: Shop, by_preference: Released) -> Released:
    """The release after the second lesson, which had to be better than the first."""
    return shop.learn(*BY_ANSWERS, max_ratio=1.0)


@pytest.fixture(scope="module")
def held_out(shop: Shop, by_answers: Released) -> set[str]:
    """The questions that no training has seen, as the store has them."""
    (file,) = (shop.home / "store").glob("collected-*/held_out.jsonl")
    records = map(json.loads, file.read_text().splitlines())
    return {record["conversations"][0]["value"] for record in records}


@pytest.fixture(scope="module")
def found(shop: Shop, by_answers: Released) -> dict[str, list[Path]]:
    """Where each word lies, once all is learned."""
    everything = (*UNCONSENTED, *PERSONAL, BUDIS, *CONSENTED)
    return {word: files_with(shop.written, word) for word in everything}


@pytest.fixture(scope="module")
def forgotten(shop: Shop, talks: Talks, found: dict[str, list[Path]]) -> str:
    """What the command says that deletes what Budi has let us keep."""
    return shop.kawan_usaha("data", "forget", NAME, talks.budi)


def test_the_page_thanks_for_each_judgement(talks: Talks) -> None:
    assert talks.told == {words.THANKS, words.THANKS_CORRECTION}


def test_by_preference_the_corrected_answers_become_likelier_than_the_served_ones(
    talks: Talks, reviewed: list[Pair], held_out: set[str], by_preference: Released
) -> None:
    for side in (True, False):
        pairs = [pair for pair in reviewed if (pair.question in held_out) is side]
        before, after = (
            [model.margin(pair) for pair in pairs] for model in (talks.first, by_preference)
        )
        assert len(pairs) > 1
        assert mean(after) > mean(before) + 10, f"held out: {side}"
        assert sum(a > b for a, b in zip(after, before, strict=True)) > 0.8 * len(pairs)


def test_by_answers_the_corrected_ones_become_likelier_than_they_were(
    talks: Talks, reviewed: list[Pair], held_out: set[str], by_answers: Released
) -> None:
    for side in (True, False):
        pairs = [pair for pair in reviewed if (pair.question in held_out) is side]
        for pair in pairs:
            before, after = (
                model.log_likelihood(pair.question, pair.corrected)
                for model in (talks.first, by_answers)
            )
            assert after > before, pair


def test_what_people_agreed_to_is_found_by_the_search(found: dict[str, list[Path]]) -> None:
    """Else the next two would pass with a search that finds nothing."""
    for word in (BUDIS, *CONSENTED):
        stages = {path.parts[2].partition("-")[0] for path in found[word] if "store" in path.parts}
        assert {"collected", "prepare"} <= stages, found[word]
        assert [path for path in found[word] if path.suffix == ".safetensors"]
        assert {path.parts[0] for path in found[word]} == {"home"}
    assert Path("home", "reports", f"{NAME}-learned.html") in found[BUDIS], "some are held out"


def test_what_nobody_agreed_to_is_nowhere(shop: Shop, found: dict[str, list[Path]]) -> None:
    assert list(shop.written.rglob("prefect.db")), "Prefect's own database is among it"
    assert list(shop.home.rglob("gateway-*.log"))
    for word in UNCONSENTED:
        assert found[word] == []
        assert not any(word in text for text in shop.said)


def test_personal_data_is_nowhere_though_the_person_agreed(
    shop: Shop, found: dict[str, list[Path]]
) -> None:
    for word in PERSONAL:
        assert found[word] == [], word
        assert not any(word in text for text in shop.said)
    (kept,) = (shop.home / "serving" / NAME / "collected").glob("20*.jsonl")
    assert "Nama saya [nama], [email], WA [telepon]. Izin apa" in kept.read_text()


def test_what_a_person_wants_forgotten_is_nowhere_and_the_models_that_learned_it_are_named(
    shop: Shop, forgotten: str, by_preference: Released, by_answers: Released
) -> None:
    assert f"{len(BUDIS_GOODS)} answers of this person deleted" in forgotten
    assert files_with(shop.written, BUDIS) == []
    for model in (by_preference, by_answers):
        assert f"has learned from it, and stays: {model.path.name}" in forgotten
        assert (model.path / "config.json").is_file()
    left = files_with(shop.written, CONSENTED[0])
    assert {path.parts[3] for path in left} == {"collected"}, left
