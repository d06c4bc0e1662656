"""The check that `learn` adds to the gate, its page and its recorded decision.

The release and the new model are both measured on the held-out reviewed conversations. The page and
the decision cover this measurement and that of the recipe's own held-out conversations.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from prefect import get_run_logger

from flows.rebuild.candidate import Candidate
from tasks.core.collected.review.reviewed_set import HELD_OUT
from tasks.core.conversation.reading.data_sources import REVIEWED_PREFERENCES
from tasks.core.errors import GateFailed
from tasks.core.evaluation.figures import EvaluationOutcome
from tasks.core.evaluation.gate import GateVerdict
from tasks.core.files.durable import make_directory, write_atomically
from tasks.core.files.private import write_private
from tasks.core.files.temporary import scratch_directory
from tasks.core.home import home
from tasks.core.learning.decisions import Ending, LearningDecisions, learning_key
from tasks.core.learning.page_files import report_page
from tasks.core.learning.questions import questions_in
from tasks.core.learning.rendering import render_html, render_markdown
from tasks.core.learning.report import LearningReport, Measured, learning_report
from tasks.core.learning.reviewed_counts import accepted_answers, count_reviewed
from tasks.core.learning.topics import Topics, read_topics, topics_in
from tasks.core.recipe import Evaluate, Gate
from tasks.core.recipe.data import DataSource
from tasks.evaluate import evaluate, verdict_of
from tasks.leaks import leaks, overlap_in
from tasks.outbox import show_markdown
from tasks.runtime import run
from tasks.stage_result import StageResult

OWN = "The recipe's held-out conversations"
REVIEWED = "Reviewed conversations, held out"
_NO_RELEASE = "The previous release is not in the store, so there is nothing to compare with."
_GATE_DECIDES = "the gate refuses figures that say nothing"
_MOST_DROPPED = 0.5
"""People write what a held-out file would not contain; what is set aside is still reported."""


@dataclass(frozen=True)
class _Checked:
    report: LearningReport
    model: str
    reviewed_set: StageResult


class LearningRun:
    """One run of `learn`: the check of its candidate, its page and its decision."""

    def __init__(self, deployment: str, sets: LearningDecisions, max_ratio: float) -> None:
        self._source = str(DataSource(collected=deployment))
        self._sets, self._max_ratio = sets, max_ratio
        self._checked: _Checked | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the model was measured and must not be released."""
        return self._checked is not None and not self._checked.report.released

    def check(self, candidate: Candidate) -> None:
        """Compare the candidate with the release on the reviewed conversations; write the page.

        Raises GateFailed if it is worse there, or if there is no release to compare with. The
        recipe's own gate decides by itself.
        """
        reviewed_set, topics = candidate.data[self._source], read_topics()
        outcome, verdict = self._measured(candidate, reviewed_set.path, topics)
        own = candidate.recipe.evaluate.conversations
        found = learning_report(
            candidate.recipe.name,
            reviewed_set.artifact,
            count_reviewed(reviewed_set.path, self._sets),
            (
                Measured(OWN, candidate.outcome, candidate.verdict, topics_in(own, topics)),
                Measured(
                    REVIEWED, outcome, verdict, topics_in(reviewed_set.path / HELD_OUT, topics)
                ),
            ),
            topics,
            reasons=() if candidate.before is not None else (_NO_RELEASE,),
        )
        self._checked = _Checked(found, candidate.model.artifact, reviewed_set)
        page = _publish_page(found)
        if candidate.before is None or not verdict.allows_release:
            raise GateFailed(
                "The model is not released: it is not better than the release.",
                where=page,
                found="; ".join(found.reasons),
                next_step="Read the page: it shows by topic what got better and what got worse. "
                "Review more conversations, or learn with other `overrides`.",
            )

    def record(self, ending: Ending, overrides: tuple[str, ...]) -> None:
        """Record the decision about this reviewed set, if its model was measured."""
        if self._checked is None:
            return
        found = self._checked
        self._sets.add(
            learning_key(found.reviewed_set.digest, overrides),
            found.reviewed_set.digest,
            accepted_answers(found.reviewed_set.path),
            ending=ending,
            model=found.model,
            reasons=found.report.reasons,
        )

    def _measured(
        self, candidate: Candidate, reviewed_set: Path, topics: Topics
    ) -> tuple[EvaluationOutcome, GateVerdict]:
        """Return the figures and the verdict on the held-out reviewed conversations."""
        with scratch_directory("questions") as scratch:
            prompts = scratch / "prompts.json"
            write_atomically(prompts, json.dumps(questions_in(reviewed_set / HELD_OUT, topics)))
            recipe = candidate.recipe
            settings = self._settings(recipe.evaluate, reviewed_set, prompts)
            overlap = None
            if recipe.finetune is not None:
                found = run(leaks, recipe.finetune, settings, _GATE_DECIDES, candidate.data)
                overlap = overlap_in(found)
            chain = [(candidate.role, candidate.model)]
            measured = run(evaluate, chain, settings, recipe.template, candidate.before, overlap)
        return verdict_of(measured.path, settings.gate)

    def _settings(self, given: Evaluate, reviewed_set: Path, prompts: Path) -> Evaluate:
        """Return the recipe's settings for these conversations, with only this run's limits.

        A judge is compared with people's preferences there, unless the recipe names other ratings.
        A remote judge that may not see what people wrote is not asked; its limit does not apply.
        """
        judge, preferences = given.judge, reviewed_set / REVIEWED_PREFERENCES
        may_ask = judge is None or judge.may_see_collected
        if not may_ask:
            get_run_logger().info(
                "The judge is not asked about the reviewed conversations: that would send them to "
                "another machine. evaluate.judge.sees_collected allows it."
            )
            judge = None
        if judge is not None and judge.ratings is None and preferences.stat().st_size:
            judge = judge.model_copy(update={"ratings": preferences})
        limits = Gate(
            max_merge_ratio=None,
            max_perplexity_ratio=None,
            max_ratio_to_release=self._max_ratio,
            min_judge_win_rate=given.gate.min_judge_win_rate if may_ask else None,
        )
        return given.model_copy(
            update={
                "conversations": reviewed_set / HELD_OUT,
                "prompts": prompts,
                "max_dropped_share": _MOST_DROPPED,
                "benchmarks": (),
                "judge": judge,
                "gate": limits,
            }
        )


def _publish_page(found: LearningReport) -> Path:
    page = report_page(home(), found.recipe)
    make_directory(page.parent)
    write_private(page, render_html(found))  # it quotes people's questions
    text = render_markdown(found)
    show_markdown(text, key="learned", description=f"{found.recipe}: {found.headline}")
    get_run_logger().info("%s. %s: %s", found.headline, page, "; ".join(found.reasons))
    return page
