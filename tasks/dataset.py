"""Data set: the conversations of a Hub data set become an artifact."""

from tasks.core.hub.download.dataset import PinnedDataSet
from tasks.runtime import run_store, stage_task
from tasks.stage_result import StageResult


def _name(data_set: PinnedDataSet, **_: object) -> str:
    return str(data_set.source)


@stage_task("dataset", _name)
def dataset(data_set: PinnedDataSet) -> StageResult:
    """Fetch the file of conversations, unless its commit is in the store already."""
    return StageResult.of(data_set.download(run_store()), "dataset")
