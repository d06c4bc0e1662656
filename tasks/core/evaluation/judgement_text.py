"""A judgement as sentences for a person, and as plain values for a program. Pure."""

from tasks.core.evaluation.judgement import Agreement, PairwiseJudgement


def judgement_lines(found: PairwiseJudgement) -> tuple[str, ...]:
    """Return the judge's preferences, its reliability and its cost, in sentences."""
    rate = "nothing could be judged" if found.win_rate is None else f"{found.win_rate:.0%} won"
    lines = [
        f"{found.model} judged {found.after} against {found.before}: {found.wins} won, "
        f"{found.ties} tied, {found.losses} lost ({rate}, ties counting half)."
    ]
    if found.turned:
        lines.append(
            f"{found.turned} of the ties are verdicts that changed with the order of the answers."
        )
    if found.unjudged:
        lines.append(f"{found.unjudged} pairs have no verdict: the reply did not keep to the form.")
    if found.left_out:
        lines.append(f"{found.left_out} pairs were left out, by the limits of the recipe.")
    lines.append(_agreement_line(found.agreement))
    lines.append(_cost_line(found))
    return tuple(lines)


def plain_judgement(found: PairwiseJudgement) -> dict[str, object]:
    """Return the judgement with its counts as plain values."""
    counts = ("wins", "ties", "losses", "turned", "unjudged", "win_rate")
    return {**found.model_dump(mode="json"), **{name: getattr(found, name) for name in counts}}


def _agreement_line(found: Agreement | None) -> str:
    if found is None:
        return "Whether people agree with this judge is unknown: the recipe names no ratings."
    kappa = "cannot be computed" if found.kappa is None else f"{found.kappa:.2f}"
    return (
        f"On {found.pairs} pairs rated by people, it agrees with them on {found.share:.0%} "
        f"(Cohen's kappa {kappa}; 0 is chance, 1 is full agreement)."
    )


def _cost_line(found: PairwiseJudgement) -> str:
    tokens = f"It read {found.input_tokens:,} tokens and wrote {found.output_tokens:,}"
    cost = "" if found.cost is None else f", for {found.cost:,.4g} at the recipe's prices"
    rest = f"; {found.uncounted} replies reported no tokens and count with the maximum"
    return f"{tokens}{cost}{rest if found.uncounted else ''}."
