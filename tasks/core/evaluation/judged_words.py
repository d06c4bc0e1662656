"""A judgement in words for a reader, and as plain values for a program. Pure."""

from tasks.core.evaluation.judgement import Agreement, Judgement


def judgement_lines(found: Judgement) -> tuple[str, ...]:
    """Return what the judge prefers, how far it can be trusted, and what it took, in sentences."""
    rate = "nothing could be judged" if found.win_rate is None else f"{found.win_rate:.0%} won"
    lines = [
        f"{found.model} judges {found.after} beside {found.before}: {found.wins} won, "
        f"{found.ties} tied, {found.losses} lost ({rate}, a tie for half)."
    ]
    if found.turned:
        lines.append(f"{found.turned} of the ties are verdicts that turned with the order.")
    if found.unjudged:
        lines.append(f"{found.unjudged} pairs have no verdict: the reply did not keep to the form.")
    if found.left_out:
        lines.append(f"{found.left_out} pairs were left out, by the limits of the recipe.")
    lines.append(_of_people(found.agreement))
    lines.append(_took(found))
    return tuple(lines)


def plain_judgement(found: Judgement) -> dict[str, object]:
    """Return the judgement with its counts as plain values."""
    counts = ("wins", "ties", "losses", "turned", "unjudged", "win_rate")
    return {**found.model_dump(mode="json"), **{name: getattr(found, name) for name in counts}}


def _of_people(found: Agreement | None) -> str:
    if found is None:
        return "Whether people agree with this judge is not known: no ratings were named."
    kappa = "cannot be computed" if found.kappa is None else f"{found.kappa:.2f}"
    return (
        f"On {found.pairs} pairs that people have rated, it agrees with them on {found.share:.0%} "
        f"(Cohen's kappa {kappa}; 0 is chance, 1 is always)."
    )


def _took(found: Judgement) -> str:
    tokens = f"It read {found.input_tokens:,} tokens and wrote {found.output_tokens:,}"
    cost = "" if found.cost is None else f", for {found.cost:,.4g} at the recipe's prices"
    rest = f"; {found.uncounted} replies did not say, and count as long as they can have been"
    return f"{tokens}{cost}{rest if found.uncounted else ''}."
