from pathlib import Path

import pytest

from tasks.core.planning.shape import LLAMA_13B
from tasks.core.planning.stages import Sizes, stage_needs
from tasks.core.planning.times import Rates
from tasks.core.recipe import KAWAN_USAHA, Base, Finetune, Publish, Recipe

WEIGHTS = LLAMA_13B.weight_bytes("float16")


def needs(recipe: Recipe, **sizes):
    return {need.name: need for need in stage_needs(recipe, LLAMA_13B, Sizes(**sizes))}


def with_parts(**parts) -> Recipe:
    return KAWAN_USAHA.model_copy(update=parts)


def test_stages_that_the_recipe_leaves_out_need_nothing():
    assert list(needs(Recipe())) == ["download", "evaluate"]


def test_stages_come_in_the_order_they_run():
    recipe = with_parts(finetune=Finetune(), publish=Publish(repo="a/b"))
    assert list(needs(recipe)) == [
        "download",
        "merge",
        "edit",
        "finetune",
        "fuse",
        "evaluate",
        "publish",
        "deploy",
    ]


def test_the_download_is_base_and_delta_in_one_format():
    download = needs(KAWAN_USAHA)["download"]
    assert download.download_bytes == download.disk_bytes == 2 * WEIGHTS


def test_sizes_that_the_hub_told_are_used_as_they_are():
    assert needs(KAWAN_USAHA, base_bytes=30, delta_bytes=12)["download"].download_bytes == 42


def test_a_directory_on_this_machine_is_not_downloaded():
    recipe = with_parts(base=Base(directory=Path("somewhere")))
    assert needs(recipe)["download"].download_bytes == WEIGHTS


def test_the_merge_streams_and_leaves_one_model():
    merge = needs(KAWAN_USAHA)["merge"]
    assert merge.disk_bytes == WEIGHTS
    assert merge.host_bytes < 10**9


def test_the_edit_takes_no_room_because_weights_are_hard_links():
    assert needs(KAWAN_USAHA)["edit"].disk_bytes == 0


def test_checkpoints_hold_lora_only_and_one_more_than_are_kept():
    one, two = (
        needs(with_parts(finetune=Finetune(save_total_limit=kept)))["finetune"].disk_bytes
        for kept in (1, 2)
    )
    lora = 40 * 2 * 8 * (5120 + 5120)
    assert (one, two) == (2 * 16 * lora, 3 * 16 * lora)


def test_evaluating_on_the_cpu_needs_no_more_than_a_layer_in_memory():
    evaluate = Recipe().evaluate.model_copy(update={"device": "cpu"})
    host = needs(with_parts(evaluate=evaluate))["evaluate"].host_bytes
    assert 4 * LLAMA_13B.layer_params < host < WEIGHTS / 5


def test_evaluating_reads_every_model_of_the_chain_and_the_release_before():
    lean, whole = Recipe(), with_parts(finetune=Finetune())
    one, four = (needs(recipe)["evaluate"] for recipe in (lean, whole))
    assert one.seconds == pytest.approx(2 * WEIGHTS / 500e6)
    assert four.seconds == pytest.approx(5 * WEIGHTS / 500e6)


def test_publishing_to_the_hub_takes_network_and_to_this_machine_disk():
    hub = needs(with_parts(publish=Publish(repo="a/b")))["publish"]
    embedded = needs(with_parts(publish=Publish(repo="a/b"), hub="embedded"))["publish"]
    directory = needs(with_parts(publish=Publish(target="models/here")))["publish"]
    bucket = needs(with_parts(publish=Publish(target="s3://bucket/models")))["publish"]
    assert (hub.upload_bytes, hub.disk_bytes) == (WEIGHTS, 0)
    assert (bucket.upload_bytes, bucket.disk_bytes) == (WEIGHTS, 0)
    assert (embedded.upload_bytes, embedded.disk_bytes) == (0, WEIGHTS)
    assert (directory.upload_bytes, directory.disk_bytes) == (0, WEIGHTS)


def test_times_follow_the_rates():
    slow, fast = (
        stage_needs(KAWAN_USAHA, LLAMA_13B, rates=Rates(network_bytes_per_s=rate))[0].seconds
        for rate in (10e6, 100e6)
    )
    assert slow == pytest.approx(10 * fast)
