"""The exceptions of the project: one class per remedy.

Covers every failure that a user can act on. Each error says what is wrong, where, what was
expected, what was found, and the next step; each class says if a retry can help and which exit
code a command ends with. Errors that nobody can act on (bugs) stay ordinary Python exceptions.
"""

from collections.abc import Mapping
from typing import ClassVar


class KawanUsahaError(Exception):
    """A failure that is explained to the user instead of shown as a traceback."""

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        found: object = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = None if where is None else str(where)
        self.expected = None if expected is None else str(expected)
        self.found = None if found is None else str(found)
        self.next_step = next_step

    def as_dict(self) -> dict[str, str]:
        """Return the parts that are set, for `--json` and for logs."""
        parts = {
            "error": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "expected": self.expected,
            "found": self.found,
            "next_step": self.next_step,
        }
        return {name: value for name, value in parts.items() if value is not None}

    def __str__(self) -> str:
        labels = (
            ("where", self.where),
            ("expected", self.expected),
            ("found", self.found),
            ("next step", self.next_step),
        )
        lines = [f"  {label}: {value}" for label, value in labels if value is not None]
        return "\n".join([self.what, *lines])

    @staticmethod
    def from_dict(parts: Mapping[str, str]) -> "KawanUsahaError":
        """Return the error that `as_dict` described, of its own class: from another process."""
        kinds = {kind.__name__: kind for kind in _kinds(KawanUsahaError)}
        names = ("what", "where", "expected", "found", "next_step")
        state = {name: parts.get(name) for name in names}
        return _rebuild(kinds.get(parts["error"], KawanUsahaError), state)

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling with all parts: Prefect moves exceptions between processes."""
        return (_rebuild, (type(self), self.__dict__))


def _kinds(kind: type[KawanUsahaError]) -> set[type[KawanUsahaError]]:
    return {kind}.union(*(_kinds(below) for below in kind.__subclasses__()))


def _rebuild(cls: type[KawanUsahaError], state: dict[str, str | None]) -> KawanUsahaError:
    error = cls.__new__(cls)
    Exception.__init__(error, state["what"])
    error.__dict__.update(state)
    return error


# --- what the user wrote -------------------------------------------------------------------


class UsageError(KawanUsahaError):
    """A command was called with words that do not fit together."""

    exit_code = 2


class RecipeError(KawanUsahaError):
    """The recipe is wrong, or asks for what the model at hand does not have."""

    exit_code = 2


class TemplateMismatch(KawanUsahaError):
    """A model was trained with another conversation template than the one it is to be used with."""

    exit_code = 2


# --- models and weights --------------------------------------------------------------------


class NotAModel(KawanUsahaError):
    """A directory does not hold a model that can be used here."""


class CorruptWeights(KawanUsahaError):
    """A weight file is truncated, malformed, or holds NaN or infinity."""


class UnsafeWeights(KawanUsahaError):
    """A weight file would run code when it is loaded."""


class UntrustedCode(KawanUsahaError):
    """A model would run code that nobody has agreed to: not ours, and not of a named commit."""


class UnsafeName(KawanUsahaError):
    """A name that somebody else wrote leads out of the directory that it belongs to."""


class DeltaMismatch(KawanUsahaError):
    """Base and delta do not belong together."""


class AdapterMismatch(KawanUsahaError):
    """A LoRA adapter does not fit the model, or uses what cannot be fused."""


class EditLost(KawanUsahaError):
    """A model that should carry an edit does not show it when it is loaded."""


class DataError(KawanUsahaError):
    """A conversation file is malformed, or nothing in it can be learned from."""


class NotCollected(KawanUsahaError):
    """An answer is not kept, or not any more."""


class DecidedMeanwhile(KawanUsahaError):
    """Another reviewer has decided since this one looked."""


class TrainingFailed(KawanUsahaError):
    """The training process ended without an adapter."""


# --- the machine ---------------------------------------------------------------------------


class DiskFull(KawanUsahaError):
    """There is not, or no longer, room on the disk.

    `advised` once its next step names what can go from the store.
    """

    advised: bool = False


class SystemRefused(KawanUsahaError):
    """The operating system refused a file, a right, memory or a connection."""


class WorkerLost(KawanUsahaError):
    """A process that did a part of the work was killed, or died; another may live."""

    retryable = True


class MissingTool(KawanUsahaError):
    """A program that this step needs is not installed."""


class LockBusy(KawanUsahaError):
    """Another process has held the same artifact for longer than the wait allowed."""

    retryable = True


class DeviceBusy(KawanUsahaError):
    """A deployment holds memory of a GPU that a build needs, for as long as it serves."""


class CorruptArtifact(KawanUsahaError):
    """An artifact of the store is not what its manifest says."""


class CorruptRemote(KawanUsahaError):
    """An artifact at the remote store is not what its manifest says."""


class StageMissing(KawanUsahaError):
    """A run was to begin after a stage that is not finished."""

    exit_code = 2


class PrefectUnavailable(KawanUsahaError):
    """The Prefect server cannot be reached, or fails."""


class Unexpected(KawanUsahaError):
    """A fault of this program: an exception that nothing in it accounts for."""


# --- the Hub -------------------------------------------------------------------------------


class HubError(KawanUsahaError):
    """The Hub refused, for a reason that a retry does not change."""


class RepositoryNotFound(HubError):
    """No such repository, or no right to see it."""


class RevisionNotFound(HubError):
    """The repository has no such branch, tag or commit."""


class GatedRepository(HubError):
    """The repository asks for its terms to be accepted first."""


class WrongToken(HubError):
    """The Hub does not accept the token, or it lacks a right."""


class DownloadCorrupt(HubError):
    """A downloaded file is not the one that the Hub announced; asking again may help."""

    retryable = True


class HubUnavailable(HubError):
    """The Hub cannot be reached or does not answer now."""

    retryable = True


class HubOffline(UsageError):
    """The environment forbids to ask the Hub."""


class HubQuotaExceeded(HubError):
    """The account has no room left for what is sent, or has to pay for it first."""


class UploadCorrupt(HubError):
    """What stands at the target is not what was sent, or does not load; sending again may help."""

    retryable = True


class SignatureRefused(KawanUsahaError):
    """A signature that was asked for is missing, broken, of another key, or of other files."""


class SigningKeyUnusable(UsageError):
    """The key of a signature is missing, cannot be used, or is not the one that is meant."""


class FileChanged(KawanUsahaError):
    """A file of the model is no longer the one that was built, or changed while it was sent."""


class SecretFound(KawanUsahaError):
    """A file that would be published holds a token or key, or looks as if it did."""


# --- directories and buckets elsewhere -----------------------------------------------------


class StorageRefused(KawanUsahaError):
    """A directory or bucket elsewhere refused, for a reason that a retry does not change."""


class BucketMissing(StorageRefused):
    """The bucket (container), or the directory in place of one, does not exist."""

    exit_code = 2


class NoStorageKeys(StorageRefused):
    """There are no keys for a storage, or it does not accept them."""


class StorageUnavailable(KawanUsahaError):
    """A directory or bucket elsewhere cannot be reached or does not answer now."""

    retryable = True


# --- proof and serving ---------------------------------------------------------------------


class EvaluationFailed(KawanUsahaError):
    """The measuring process ended without an outcome."""


class JudgeRefused(KawanUsahaError):
    """The judge of an evaluation cannot be asked: no key, a wrong address, model or right."""


class JudgeUnavailable(KawanUsahaError):
    """The judge of an evaluation does not answer now."""

    retryable = True


class GateFailed(KawanUsahaError):
    """The evaluation's verdict forbids to publish or to serve this model."""


class PortTaken(KawanUsahaError):
    """A port that serving needs is in use."""


class ServingFailed(KawanUsahaError):
    """A server did not start, died, or does not answer with tokens."""
