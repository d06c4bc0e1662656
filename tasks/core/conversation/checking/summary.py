"""A screening in words: what is wrong, how often, and what to do about it. Pure."""

from collections.abc import Iterator

from tasks.core.conversation.checking.findings import Screening
from tasks.core.conversation.checking.lengths import Lengths, Size
from tasks.core.conversation.checking.remedies import remedy
from tasks.core.conversation.formats import NAMES

_BAR_CHARACTERS = 40


def render_summary(screening: Screening) -> str:
    """Return the report, without the individual records."""
    parts = [_verdict(screening), _faults(screening), _figures(screening)]
    return "\n\n".join(part for part in parts if part)


def _verdict(screening: Screening) -> str:
    limit, share = _percent(screening.rules.max_dropped_share), _percent(screening.dropped_share)
    counts = (
        f"{screening.records:,} records: {screening.kept:,} kept, {screening.dropped:,} dropped"
    )
    if not screening.kept:
        said = "Nothing can be learned from this file."
    elif not screening.acceptable:
        said = f"Not accepted: {share} dropped, at most {limit} may be."
    elif screening.dropped:
        said = f"Accepted: {share} dropped; training leaves those records out."
    else:
        said = "Accepted: every record can be learned from."
    return "\n".join([*_files(screening), counts, said])


def _files(screening: Screening) -> Iterator[str]:
    """Yield the name and format of each file, with its counts if there are several."""
    for each in screening.files:
        counts = f", {each.records:,} records, {each.dropped:,} dropped"
        several = counts if len(screening.files) > 1 else ""
        yield f"{each.file.name}: {NAMES[each.file.read_as]}{several}"


def _percent(share: float) -> str:
    return f"{share:.1%}".replace(".0%", "%")


def _faults(screening: Screening) -> str:
    ordered = sorted(screening.faults.items(), key=lambda item: -item[1])
    width = max((len(fault.value) for fault, _ in ordered), default=0)
    return "\n".join(
        f"{count:>8,}  {fault.value:<{width}}  {remedy(fault, screening.rules.caller)}"
        for fault, count in ordered
    )


def _figures(screening: Screening) -> str:
    if not screening.kept:
        return ""
    size = screening.total
    amounts = f"Kept: {size.turns:,} turns, {size.characters:,} characters"
    tokens = _tokens(size) if screening.lengths.unit == "tokens" else ""
    return "\n\n".join([amounts + tokens, render_histogram(screening.lengths)])


def _tokens(size: Size) -> str:
    masked = size.tokens - size.learned_tokens
    whole = size.tokens + size.truncated_tokens
    return (
        f", {whole:,} tokens\n"
        f"{size.learned_tokens:>12,} ({size.learned_tokens / whole:.0%}) learned: the answers\n"
        f"{masked:>12,} ({masked / whole:.0%}) masked: questions and the template\n"
        f"{size.truncated_tokens:>12,} ({size.truncated_tokens / whole:.0%}) truncated: beyond the "
        "length"
    )


def render_histogram(lengths: Lengths) -> str:
    """Return the histogram as lines of bars, one per class."""
    classes = list(lengths.classes())
    most = max((one.conversations for one in classes), default=1)
    rows = [
        f"{one.start:>9,} to {one.stop - 1:>9,}  "
        f"{'█' * round(_BAR_CHARACTERS * one.conversations / most):<{_BAR_CHARACTERS}} "
        f"{one.conversations:>9,}"
        for one in classes
    ]
    return "\n".join([f"Conversations by length in {lengths.unit}:", *rows])
