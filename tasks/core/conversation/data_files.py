"""Files of conversations that are read one after another as if they were one, each in its format.

The invariant: a file is read in one format, which follows from its first records unless it is
named, and is known before the first of them is judged.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from tasks.core.conversation.formats import NAMES, Format, ReadAs, formats_of
from tasks.core.conversation.json_values import values
from tasks.core.conversation.preferences import EXPECTED, Method
from tasks.core.conversation.records import BadRecord
from tasks.core.errors import DataError
from tasks.core.recipe.data import DataFormat

_LOOKED_AT_RECORDS = 4
_FITTING: Mapping[ReadAs, frozenset[ReadAs]] = {
    "fastchat": frozenset({"fastchat"}),
    "openai": frozenset({"openai"}),
    "sharegpt": frozenset({"sharegpt", "fastchat"}),
    "preferences": frozenset({"preferences"}),
}
"""What records may look like that are read in a format: FastChat's is one of ShareGPT's."""


@dataclass(frozen=True)
class DataFile:
    """A file, how its records are written, and how often an epoch learns them.

    `name` is what it is called for people: it may lie elsewhere.
    """

    path: Path
    name: str
    format: DataFormat = "auto"
    weight: float = 1.0

    @property
    def read_as(self) -> ReadAs:
        """The format, once it was looked at."""
        if self.format == "auto":
            raise ValueError(f"{self.name} was not looked at yet")
        return self.format


Data = Path | Sequence[DataFile]
"""What conversations are read from: files, or one that is found out about by a look."""


def files_of(data: Data) -> tuple[DataFile, ...]:
    """Return the files."""
    return (DataFile(data, str(data)),) if isinstance(data, Path) else tuple(data)


def looked_at(data: Data, method: Method | None = None) -> tuple[DataFile, ...]:
    """Return the files with the format in which the records of each will be read.

    A file is read in one format: that of its first records, unless it was named. Raises DataError
    where these are all in another one, in none that is read, or not what the method learns from:
    preferences for `dpo`, conversations for `sft`, either if there is none.
    """
    return tuple(replace(each, format=_format_for(method, each)) for each in files_of(data))


def _format_for(method: Method | None, file: DataFile) -> ReadAs:
    found = _format_of_file(file, unknown="preferences" if method == "dpo" else "fastchat")
    if method == "sft" and found == "preferences":
        raise DataError(
            "The records are preferences, not conversations.",
            where=file.name,
            expected="a conversation each",
            found="pairs of a chosen and a rejected answer",
            next_step="Set finetune.method: dpo (`--method dpo`) to learn from them; elsewhere, "
            "bring conversations.",
        )
    if method == "dpo" and found != "preferences":
        raise DataError(
            "The records are no preferences.",
            where=file.name,
            expected=EXPECTED,
            found=f"records in {NAMES[found]}, without `chosen` and `rejected`",
            next_step="Bring pairs of answers, or set finetune.method: sft to learn from these.",
        )
    return found


def _format_of_file(file: DataFile, unknown: ReadAs) -> ReadAs:
    """Return the format of a file, or what to take one for of which nobody knows what it is."""
    first = (value for _, value in islice(values(file.path), _LOOKED_AT_RECORDS))
    looks = [tuple(formats_of(each)) for each in first if not isinstance(each, BadRecord)]
    known = [each for each in looks if each]
    if not known:
        return unknown if file.format == "auto" else file.format
    if file.format == "auto":
        return _likeliest([each[0] for each in known], file)
    if not {each.read_as for some in known for each in some} & _FITTING[file.format]:
        raise _not_readable(file, known[0][0])
    return file.format


def _likeliest(looks: Sequence[Format], file: DataFile) -> ReadAs:
    """Return the format of most records, ShareGPT's where some of these are FastChat's."""
    kinds = Counter(each.read_as for each in looks if each.read_as is not None)
    if not kinds:
        raise _not_readable(file, looks[0])
    if "sharegpt" in kinds:
        kinds["sharegpt"] += kinds.pop("fastchat", 0)
    (likeliest, _), *_ = kinds.most_common()
    return likeliest


def _not_readable(file: DataFile, found: Format) -> DataError:
    named = None if file.format == "auto" else NAMES[file.format]
    what = "in no format that is read here" if named is None else "not in the format that is named"
    as_found = f"Name this one, `{found.read_as}`, or `auto`." if found.read_as else found.remedy
    return DataError(
        f"The records are {what}.",
        where=file.name,
        expected=named or f"{', '.join(NAMES.values())}, or a variant of it",
        found=found.name,
        next_step=as_found,
    )
