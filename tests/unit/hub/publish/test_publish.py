"""Publishing to a Hub: all of it or nothing, each byte once, and back again.

One Hub sees two builds published one after the other, while another thread reads main all the
time; each test then looks at one thing that must hold.
"""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, hf_hub_download

from tasks.core.errors import HubError, RevisionNotFound
from tasks.core.files.digests import digest_of
from tasks.core.hub.publish.receipt import Receipt
from tasks.core.hub.publish.to_hub.protocol import rollback_on_hub
from tests.prefork import preforked
from tests.unit.hub.publish.world import REPO, WRITER, Build, PublishHub, publish_hub


@dataclass(frozen=True)
class Story:
    """What happened when two builds were published."""

    hub: PublishHub
    first: Build
    second: Build
    receipts: tuple[Receipt, Receipt]
    reports: list[tuple[int, int]]
    seen_on_main: list[dict[str, str]]


@pytest.fixture(scope="module")
def story(tmp_path_factory, plain, edited, preforked_probe) -> Iterator[Story]:
    with publish_hub(tmp_path_factory.mktemp("story") / "hub") as hub:
        reports: list[tuple[int, int]] = []
        seen = [hub.visible()]
        over = threading.Event()

        def read_main() -> None:
            is_last = False
            while not is_last:
                is_last = over.wait(0.005)
                shown = hub.visible()
                if shown != seen[-1]:
                    seen.append(shown)

        reader = threading.Thread(target=read_main)
        reader.start()
        try:
            one = plain.publish(on_progress=lambda done, total: reports.append((done, total)))
            two = edited.publish()
        finally:
            over.set()
            reader.join()
        yield Story(hub, plain, edited, (one, two), reports, seen)


def test_another_build_under_a_published_tag_is_refused(story):
    with pytest.raises(HubError, match="Another build was published"):
        replace(story.first, name=story.second.name).publish()


def test_rollback_to_an_unknown_tag_names_those_there_are(story):
    with pytest.raises(RevisionNotFound, match="release-first, release-second"):
        rollback_on_hub(REPO, "release-third")


def test_main_only_ever_shows_nothing_or_a_whole_build(story):
    builds = [story.hub.files(receipt.tag) for receipt in story.receipts]
    assert story.seen_on_main == [{}, *builds]


def test_what_is_published_is_byte_for_byte_the_build(story, tmp_path):
    for build, receipt in zip((story.first, story.second), story.receipts, strict=True):
        assert set(receipt.files) == {*build.files, "README.md"}
        assert story.hub.files(receipt.tag).keys() == set(receipt.files)
        for name, digest in build.files.items():
            path = hf_hub_download(
                REPO,
                name,
                revision=receipt.tag,
                endpoint=story.hub.url,
                token=WRITER,
                cache_dir=tmp_path,
            )
            assert digest_of(Path(path)) == digest


def test_a_published_build_leaves_its_tag_and_no_branch(story):
    assert story.hub.refs() == ({"main"}, {"release-first", "release-second"})


def test_a_new_repository_is_private(story):
    assert story.hub.api.model_info(REPO).private


def test_a_first_publish_counts_all_bytes_as_sent(story):
    receipt = story.receipts[0]
    assert (receipt.sent_bytes, receipt.skipped_bytes) == (story.first.size_bytes, 0)


def test_the_report_goes_from_nothing_to_all_bytes(story):
    total = story.first.size_bytes
    assert story.reports[0] == (0, total) and story.reports[-1] == (total, total)
    assert story.reports == sorted(story.reports)


def test_the_card_on_the_hub_is_the_card(story, tmp_path):
    path = hf_hub_download(
        REPO,
        "README.md",
        revision="release-first",
        endpoint=story.hub.url,
        token=WRITER,
        cache_dir=tmp_path,
    )
    assert ModelCard.load(Path(path)).content == story.first.card


def test_a_second_publish_sends_nothing(story):
    story.second.publish()  # main may show another build: other tests roll back
    before = (story.hub.uploads.received_bytes, len(story.hub.writes()))
    receipt = story.second.publish()
    assert (story.hub.uploads.received_bytes, len(story.hub.writes())) == before
    assert (receipt.sent_bytes, receipt.sent) == (0, ())
    assert receipt.skipped_bytes == story.second.size_bytes


def test_rollback_brings_an_earlier_build_to_main_without_sending_weights(story):
    story.second.publish()
    before = story.hub.uploads.received_bytes
    receipt = rollback_on_hub(REPO, "release-first")
    assert story.hub.files() == story.hub.files("release-first")
    assert receipt.commit == story.hub.api.model_info(REPO).sha
    assert story.hub.uploads.received_bytes == before


def test_a_build_that_was_rolled_back_is_published_again_without_sending_it(story):
    rollback_on_hub(REPO, "release-first")
    receipt = story.second.publish()
    assert story.hub.files() == story.hub.files("release-second")
    assert receipt.sent_bytes == 0


def test_an_empty_cache_loads_the_model_with_its_code_from_name_and_tag(story, tmp_path):
    loaded = subprocess.run(
        preforked("torch", "tests.loading", REPO, "release-second"),
        env={**os.environ, "HF_HOME": str(tmp_path / "cache")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(loaded.stdout.splitlines()[-1])
    assert (found["class"], found["model_type"]) == ("TinyEditedForCausalLM", "tiny_edited")
    assert found["module"].startswith("transformers_modules.")
