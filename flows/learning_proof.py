"""What a run of `learn` measures besides, before its model may be released, and what it keeps.

The reviewed conversations that are held out are read by the release and by the new model. The page
and the decision follow from both measurements, whichever of them refuses.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from prefect import get_run_logger

from flows.candidate import Candidate
from tasks.core.collected.reviewed import HELD_OUT, PREFERENCES
from tasks.core.errors import GateFailed
from tasks.core.evaluation.figures import EvaluationOutcome
from tasks.core.evaluation.gate import GateVerdict
from tasks.core.files.durable import make_directory, write_atomically
from tasks.core.files.private import write_private
from tasks.core.files.temporary import scratch_directory
from tasks.core.home import home
from tasks.core.learning.learned import Ending, LearnedSets, work_of
from tasks.core.learning.lesson import Lesson, Measured, lesson
from tasks.core.learning.material import accepted_answers, material_in
from tasks.core.learning.page import render_html, render_markdown
from tasks.core.learning.pages import page_of
from tasks.core.learning.questions import questions_in
from tasks.core.learning.topics import Topics, read_topics, topics_in
from tasks.core.recipe import Evaluate, Gate
from tasks.core.recipe.data import DataSource
from tasks.evaluate import evaluate, verdict_of
from tasks.leaks import leaks, overlap_in
from tasks.runtime import StageResult, run
from tasks.telling import show_markdown

OWN = "The recipe's held-out conversations"
REVIEWED = "Reviewed conversations, held out"
_NO_RELEASE = "The release before is not in the store, so that nothing can be compared with it."
_GATE_DECIDES = "the gate refuses what says nothing"
_MOST_DROPPED = 0.5
"""People write what no held-out file would hold; what is set aside is told all the same."""


@dataclass(frozen=True)
class _Proved:
    lesson: Lesson
    model: str
    reviewed_set: StageResult


class Learning:
    """One run of `learn`: the proof that it asks for, its page, and its decision."""

    def __init__(self, deployment: str, sets: LearnedSets, max_ratio: float) -> None:
        self._source = str(DataSource(collected=deployment))
        self._sets, self._max_ratio = sets, max_ratio
        self._proved: _Proved | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the model was measured, and must not be released."""
        return self._proved is not None and not self._proved.lesson.released

    def prove(self, candidate: Candidate) -> None:
        """Hold the candidate against the release once more, and write the page.

        Raises GateFailed for one that is worse on what people have reviewed, and where there is no
        release to hold it against; what the recipe's own gate says is left to it.
        """
        reviewed_set, topics = candidate.data[self._source], read_topics()
        outcome, verdict = self._measured(candidate, reviewed_set.path, topics)
        own = candidate.recipe.evaluate.conversations
        found = lesson(
            candidate.recipe.name,
            reviewed_set.artifact,
            material_in(reviewed_set.path, self._sets),
            (
                Measured(OWN, candidate.outcome, candidate.verdict, topics_in(own, topics)),
                Measured(
                    REVIEWED, outcome, verdict, topics_in(reviewed_set.path / HELD_OUT, topics)
                ),
            ),
            topics,
            reasons=() if candidate.before is not None else (_NO_RELEASE,),
        )
        self._proved = _Proved(found, candidate.model.artifact, reviewed_set)
        page = _shown(found)
        if candidate.before is None or not verdict.allows_release:
            raise GateFailed(
                "The model is not released: it has not become better by what was learned.",
                where=page,
                found="; ".join(found.reasons),
                next_step="Read the page: it shows by topic what got better and what worse. Review "
                "more conversations, or learn with other `overrides`.",
            )

    def decide(self, ending: Ending, overrides: tuple[str, ...]) -> None:
        """Keep what came of this reviewed set; nothing where nothing was measured."""
        if self._proved is None:
            return
        found = self._proved
        self._sets.add(
            work_of(found.reviewed_set.digest, overrides),
            found.reviewed_set.digest,
            accepted_answers(found.reviewed_set.path),
            ending=ending,
            model=found.model,
            reasons=found.lesson.reasons,
        )

    def _measured(
        self, candidate: Candidate, reviewed_set: Path, topics: Topics
    ) -> tuple[EvaluationOutcome, GateVerdict]:
        """Return the figures on the reviewed conversations that are held out, and the verdict."""
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
        """Return the recipe's settings for these conversations, and for this limit alone.

        A judge is held against what people prefer there, unless the recipe names other ratings. One
        elsewhere that may not see what people wrote is not asked, and has no limit to keep here.
        """
        judge, preferences = given.judge, reviewed_set / PREFERENCES
        may_ask = judge is None or judge.may_see_collected
        if not may_ask:
            get_run_logger().info(
                "The judge is not asked about the reviewed conversations: they would leave this "
                "machine. evaluate.judge.sees_collected allows it."
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


def _shown(found: Lesson) -> Path:
    page = page_of(home(), found.recipe)
    make_directory(page.parent)
    write_private(page, render_html(found))  # it quotes what people have asked
    text = render_markdown(found)
    show_markdown(text, key="learned", description=f"{found.recipe}: {found.headline}")
    get_run_logger().info("%s. %s: %s", found.headline, page, "; ".join(found.reasons))
    return page
