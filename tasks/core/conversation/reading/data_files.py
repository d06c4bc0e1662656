"""Files of records that are read as if they were one, each in its own format.

The invariant: a file has one format, the one named for it or the one its first records are in, and
it is known before the first record is checked.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from tasks.core.conversation.formats import NAMES, Format, ReadAs, formats_of
from tasks.core.conversation.preferences import EXPECTED, Method
from tasks.core.conversation.reading.json_values import values
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
"""What records may look like in a format: FastChat's is a variant of ShareGPT's."""


@dataclass(frozen=True)
class DataFile:
    """A file, the format of its records, and how often an epoch trains on them.

    `name` is shown to people; `path` may point to a fetched copy.
    """

    path: Path
    name: str
    format: DataFormat = "auto"
    weight: float = 1.0

    @property
    def read_as(self) -> ReadAs:
        """The format, once it is known."""
        if self.format == "auto":
            raise ValueError(f"the format of {self.name} was not detected yet")
        return self.format


Data = Path | Sequence[DataFile]
"""What records are read from: files, or the path of one whose format is to be detected."""


def files_of(data: Data) -> tuple[DataFile, ...]:
    """Return the files; a path is one file of any format."""
    return (DataFile(data, str(data)),) if isinstance(data, Path) else tuple(data)


def detect_formats(data: Data, method: Method | None = None) -> tuple[DataFile, ...]:
    """Return the files with the format in which each will be read.

    That is the format of its first records, unless one is named. Raises DataError if these are all
    in another format than the named one, in none that can be read, or not what the method trains
    on: preference pairs for `dpo`, conversations for `sft`, either if no method is given.
    """
    return tuple(replace(each, format=_format_for(method, each)) for each in files_of(data))


def _format_for(method: Method | None, file: DataFile) -> ReadAs:
    found = _format_of_file(file, unknown="preferences" if method == "dpo" else "fastchat")
    if method == "sft" and found == "preferences":
        raise DataError(
            "The records are preferences, not conversations.",
            where=file.name,
            expected="one conversation per record",
            found="pairs of a chosen and a rejected answer",
            next_step="Set finetune.method: dpo (`--method dpo`) to learn from them; elsewhere, "
            "bring conversations.",
        )
    if method == "dpo" and found != "preferences":
        raise DataError(
            "The records are not preferences.",
            where=file.name,
            expected=EXPECTED,
            found=f"records in {NAMES[found]}, without `chosen` and `rejected`",
            next_step="Bring pairs of answers, or set finetune.method: sft to learn from these.",
        )
    return found


def _format_of_file(file: DataFile, unknown: ReadAs) -> ReadAs:
    """Return the format of a file, `unknown` if its first records show none."""
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
    """Return the most frequent format; FastChat's counts as ShareGPT's if both occur."""
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
