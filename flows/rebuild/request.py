"""What a rebuild is asked to do: a recipe, and how much of it."""

from dataclasses import dataclass

from flows.rebuild.candidate import ReleaseCheck, no_further_check
from flows.stage_names import STAGES, StageName
from tasks.core.errors import UsageError
from tasks.core.recipe import Recipe


@dataclass(frozen=True)
class RebuildRequest:
    """A recipe, its first and last stage, and what this run changes or overrides.

    `release_check` sees the measured model before its gate, and may refuse it too.
    """

    recipe: Recipe
    from_stage: StageName = "plan"
    until: StageName = "deploy"
    overrides: tuple[str, ...] = ()
    override_gate: str | None = None
    release_check: ReleaseCheck = no_further_check

    def includes(self, stage: StageName) -> bool:
        """Return whether the run reaches this stage."""
        return STAGES.index(stage) <= STAGES.index(self.until)

    def require_order(self) -> None:
        """Raise UsageError if the first stage comes after the last one."""
        if STAGES.index(self.from_stage) > STAGES.index(self.until):
            raise UsageError(
                "The first stage comes after the last one.",
                expected=f"the order {', '.join(STAGES)}",
                found=f"from {self.from_stage} until {self.until}",
            )
