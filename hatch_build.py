"""What a wheel holds beside the code: the files that `tasks.core.home.RESOURCES` leads to.

An editable installation reads them from the checkout, so nothing is copied for it. The list is
explicit: somebody's own conversations in data/ do not travel by accident.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

RESOURCES = (
    "prefect.yaml",
    "data/README.md",
    "data/conversation.json",
    "data/topics.yaml",
    "data/evaluation",
    "data/pools",
    "data/recipes",
)


class BundledResources(BuildHookInterface[Any]):
    """Puts the resources into the package `tasks` of a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files to include; hatchling calls this before it builds."""
        if version == "standard":
            build_data["force_include"] |= {name: f"tasks/bundled/{name}" for name in RESOURCES}
