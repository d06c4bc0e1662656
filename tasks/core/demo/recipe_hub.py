"""The Hub of a recipe: the one that the environment names, or an embedded one."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tasks.core.recipe import Recipe

_log = logging.getLogger(__name__)


@contextmanager
def recipe_hub(
    recipe: Recipe, home: Path, say: Callable[[str], None] = _log.info
) -> Iterator[None]:
    """Set HF_ENDPOINT and HF_TOKEN to the recipe's Hub during the block.

    For `hub: embedded` a Hub over <home>/hub is started, with the demo's models in it, unless
    HF_ENDPOINT names one already. `say` gets a line before each longer step. Raises UsageError when
    another process serves that directory.
    """
    if recipe.hub != "embedded" or os.environ.get("HF_ENDPOINT"):
        yield
        return
    # Most runs have no embedded Hub, and need neither its server nor its models.
    from tasks.core.demo.hub.server import running_hub
    from tasks.core.demo.models import make_demo_repositories

    with running_hub(home / "hub") as address:
        hub = {"HF_ENDPOINT": address.url, "HF_TOKEN": address.token}
        with _environment(hub):
            make_demo_repositories(say=say)
            yield


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
