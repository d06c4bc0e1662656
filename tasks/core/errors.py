"""The exceptions of the project: one class per remedy.

Covers every failure that a user can act on. An error says what is wrong, where, what was expected,
what was found, and the next step; its class says whether a retry can help and with which exit code
a command ends. Errors that nobody can act on (bugs) stay ordinary Python exceptions.

The sections follow a run: what the user wrote, models and data, the machine, the store and its
runs, the Hub and storage elsewhere, signatures, evaluation, serving.
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
        """Return the parts that are set, for `--json` and logs."""
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
        """Restore an error from `as_dict` of another process, with its own class."""
        kinds = {kind.__name__: kind for kind in _kinds(KawanUsahaError)}
        names = ("what", "where", "expected", "found", "next_step")
        state = {name: parts.get(name) for name in names}
        return _rebuild(kinds.get(parts["error"], KawanUsahaError), state)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle all parts: Prefect moves exceptions between processes."""
        return (_rebuild, (type(self), self.__dict__))


def _kinds(kind: type[KawanUsahaError]) -> set[type[KawanUsahaError]]:
    return {kind}.union(*(_kinds(below) for below in kind.__subclasses__()))


def _rebuild(cls: type[KawanUsahaError], state: dict[str, str | None]) -> KawanUsahaError:
    error = cls.__new__(cls)
    Exception.__init__(error, state["what"])
    error.__dict__.update(state)
    return error


# --- what the user wrote -------------------------------------------------------------------------


class UsageError(KawanUsahaError):
    """The words or options of a command do not fit together."""

    exit_code = 2


class RecipeError(KawanUsahaError):
    """The recipe is wrong, or asks for something the model does not have."""

    exit_code = 2


class TemplateMismatch(KawanUsahaError):
    """A model was trained with another conversation template than it is used with."""

    exit_code = 2


# --- models and data -----------------------------------------------------------------------------


class NotAModel(KawanUsahaError):
    """A directory does not hold a model that can be used here."""


class CorruptWeights(KawanUsahaError):
    """A weight file is truncated or malformed, or holds NaN or infinity."""


class UnsafeWeights(KawanUsahaError):
    """Loading a weight file would run code."""


class UntrustedCode(KawanUsahaError):
    """A model brings code that is neither ours nor pinned to a commit by the user."""


class UnsafeName(KawanUsahaError):
    """A file name from elsewhere leads out of its directory."""


class DeltaMismatch(KawanUsahaError):
    """Base and delta do not belong together."""


class AdapterMismatch(KawanUsahaError):
    """A LoRA adapter does not fit the model, or uses a feature that cannot be fused."""


class EditLost(KawanUsahaError):
    """A model that should carry an edit does not show it when loaded."""


class DataError(KawanUsahaError):
    """A file of conversations is malformed, or nothing in it can be trained on."""


class NotCollected(KawanUsahaError):
    """A collected answer is not kept, or no longer."""


class DecidedMeanwhile(KawanUsahaError):
    """Another reviewer has decided since this one looked."""


class TrainingFailed(KawanUsahaError):
    """The training process ended without an adapter."""


# --- the machine ---------------------------------------------------------------------------------


class DiskFull(KawanUsahaError):
    """The disk has too little room, or ran full.

    `advised` is set once the next step names what can be removed from the store.
    """

    advised: bool = False


class SystemRefused(KawanUsahaError):
    """The operating system refused a file, a permission, memory or a connection."""


class MissingTool(KawanUsahaError):
    """A program that this step needs is not installed."""


class WorkerLost(KawanUsahaError):
    """A process that did part of the work died; a new one may succeed."""

    retryable = True


class DeviceBusy(KawanUsahaError):
    """A deployment holds GPU memory that a build needs, for as long as it serves."""


class PortTaken(KawanUsahaError):
    """A port that serving needs is in use."""


class Unexpected(KawanUsahaError):
    """A bug: an exception that nothing in the program accounts for."""


# --- the store and its runs ----------------------------------------------------------------------


class LockBusy(KawanUsahaError):
    """Another process has held the same artifact for longer than the allowed wait."""

    retryable = True


class CorruptArtifact(KawanUsahaError):
    """An artifact in the store differs from its manifest."""


class CorruptRemote(KawanUsahaError):
    """An artifact in the remote store differs from its manifest."""


class StageMissing(KawanUsahaError):
    """A run should start after a stage that is not finished."""

    exit_code = 2


class PrefectUnavailable(KawanUsahaError):
    """The Prefect server cannot be reached, or fails."""


# --- the Hub -------------------------------------------------------------------------------------


class HubError(KawanUsahaError):
    """The Hub refused, for a reason that a retry does not change."""


class RepositoryNotFound(HubError):
    """The repository does not exist, or the token may not see it."""


class RevisionNotFound(HubError):
    """The repository has no such branch, tag or commit."""


class GatedRepository(HubError):
    """The terms of the repository have to be accepted first."""


class WrongToken(HubError):
    """The Hub rejects the token, or the token lacks a permission."""


class HubOffline(UsageError):
    """The environment forbids access to the Hub."""


class HubUnavailable(HubError):
    """The Hub cannot be reached, or does not answer now."""

    retryable = True


class HubQuotaExceeded(HubError):
    """The account has no room left for the upload, or has to pay for it first."""


class DownloadCorrupt(HubError):
    """A downloaded file is not the one that the Hub announced."""

    retryable = True


class UploadCorrupt(HubError):
    """The published files differ from those sent, or do not load."""

    retryable = True


# --- directories and buckets elsewhere -----------------------------------------------------------


class StorageRefused(KawanUsahaError):
    """A directory or bucket refused, for a reason that a retry does not change."""


class BucketMissing(StorageRefused):
    """The bucket, or the directory in its place, does not exist."""

    exit_code = 2


class NoStorageKeys(StorageRefused):
    """There are no keys for a bucket, or it rejects them."""


class StorageUnavailable(KawanUsahaError):
    """A directory or bucket cannot be reached, or does not answer now."""

    retryable = True


# --- signatures and what is published ------------------------------------------------------------


class SignatureRefused(KawanUsahaError):
    """A required signature is missing, broken, by another key, or of other files."""


class SigningKeyUnusable(UsageError):
    """A signing key is missing, cannot be used, or is not the expected one."""


class FileChanged(KawanUsahaError):
    """A file of the model has changed since it was built, or while it was sent."""


class SecretFound(KawanUsahaError):
    """A file to be published holds a token or key, or seems to."""


# --- evaluation ----------------------------------------------------------------------------------


class EvaluationFailed(KawanUsahaError):
    """The measuring process ended without an outcome."""


class JudgeRefused(KawanUsahaError):
    """The judge cannot be asked: its key, address, model or permission is wrong."""


class JudgeUnavailable(KawanUsahaError):
    """The judge does not answer now."""

    retryable = True


class GateFailed(KawanUsahaError):
    """The evaluation's verdict forbids publishing or serving this model."""


# --- serving -------------------------------------------------------------------------------------


class ServingFailed(KawanUsahaError):
    """A server did not start, died, or does not answer with tokens."""
