"""Explaining the errors of fsspec's libraries for directories and buckets.

s3fs, gcsfs and adlfs turn some responses into OSError and pass on others as botocore, aiohttp,
google or azure raise them. An exception is recognized by its class and the module of the class,
then by code and status of the response; nothing is imported, because none of these packages needs
to be installed. The invariant: an exception that is not recognized is left as it is.
"""

from collections.abc import Iterator
from typing import Any

from tasks.core.errors import (
    BucketMissing,
    DiskFull,
    KawanUsahaError,
    NoStorageKeys,
    StorageRefused,
    StorageUnavailable,
)

_LIBRARIES = (
    "botocore",
    "aiohttp",
    "requests",
    "fsspec",
    "gcsfs",
    "google.auth",
    "google.api_core",
    "azure.core",
)
_NO_KEYS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "ProfileNotFound",
    "NoAuthTokenError",
    "TokenRetrievalError",
    "SSOError",
    "LoginError",
    "DefaultCredentialsError",
    "RefreshError",
    "ClientAuthenticationError",
}
_NO_ANSWER = {
    "ConnectionError",
    "HTTPClientError",
    "ConnectionClosedError",
    "ReadTimeoutError",
    "ResponseStreamingError",
    "IncompleteReadError",
    "ClientConnectionError",
    "ClientPayloadError",
    "TransportError",
    "RetryError",
    "ServiceRequestError",
    "ServiceResponseError",
    "Timeout",
    "FSTimeoutError",
}
_OTHER_BYTES = {"FlexibleChecksumError", "ChecksumError"}
_REFUSED_KEYS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "AuthenticationFailed",
    "RequestTimeTooSkewed",
}
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_NO_ROOM = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "storageQuotaExceeded"}
_BUSY = {
    "SlowDown",
    "ServerBusy",
    "RequestTimeout",
    "OperationTimedOut",
    "InternalError",
    "OperationAborted",  # this and the next: another writer has the same name right now
    "ConditionalRequestConflict",
}
_BUSY_STATUS = {408, 425, 429, 500, 502, 503, 504}

_KEYS = (
    "Credentials come from the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or "
    "AWS_PROFILE) for s3://, GOOGLE_APPLICATION_CREDENTIALS for gs://, "
    "AZURE_STORAGE_CONNECTION_STRING for abfs://. Set them where the run executes, in the worker's "
    "environment too."
)


def storage_error(error: BaseException, where: object = None) -> KawanUsahaError | None:
    """Return an exception of a storage library with its explanation, None if it is not known.

    Follows the causes of the exception up to an error of ours.
    """
    for each in _causes(error):
        found = _known(each, where)
        if found is not None:
            return found
    return None


def came_changed(error: BaseException) -> bool:
    """Return whether a library's own checksum shows that a download was altered."""
    return any(_names_of(each) & _OTHER_BYTES for each in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen and not isinstance(each, KawanUsahaError):
        seen.add(id(each))
        yield each
        each = each.__cause__


def _known(error: BaseException, where: object) -> KawanUsahaError | None:
    names = _names_of(error)
    if not names:
        return _of_words(error, where)
    said = f"{type(error).__name__}: {error}".rstrip(": ")
    status, code = _status_of(error), _code_of(error)
    if names & _OTHER_BYTES:
        return _unavailable("What arrives from the storage has a wrong checksum.", where, said)
    if names & _NO_KEYS:
        return _no_keys("There are no credentials for this storage.", where, said)
    if status is not None or code is not None:
        return _of_answer(status, code, where, said)
    if names & _NO_ANSWER:
        return _unavailable("The storage cannot be reached.", where, said)
    return StorageRefused(
        "The storage refuses this.", where=where, found=said, next_step="Correct what it names."
    )


def _names_of(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__ if _is_a_librarys(kind)}


def _is_a_librarys(kind: type) -> bool:
    return any(f"{kind.__module__}.".startswith(f"{name}.") for name in _LIBRARIES)


def _of_words(error: BaseException, where: object) -> KawanUsahaError | None:
    """Recognize by text what has no class of its own: gcsfs raises OSError, adlfs ValueError."""
    words = str(error)
    if isinstance(error, OSError) and error.errno is None and words.startswith("Forbidden: "):
        return _refused_right(where, words)
    if isinstance(error, ValueError) and words.startswith("unable to connect to account for"):
        return _no_keys("There are no credentials for this storage.", where, words)
    return None


def _status_of(error: Any) -> int | None:
    """Return the HTTP status behind an exception, None without a response."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(response, "status_code", None)
    for name in ("status_code", "status", "code"):
        status = getattr(error, name, None) if status is None else status
    return int(status) if str(status).isdigit() else None


def _code_of(error: Any) -> str | None:
    """Return the storage's own error code."""
    response = getattr(error, "response", None)
    answer = response.get("Error", {}) if isinstance(response, dict) else {}
    code = answer.get("Code") or getattr(error, "error_code", None)
    return None if code is None else str(code)


def _of_answer(status: int | None, code: str | None, where: object, said: str) -> KawanUsahaError:
    if code in _NO_ROOM or status == 507:
        return DiskFull(
            "The storage is full.",
            where=where,
            found=said,
            next_step="Remove what is not needed there, or use another place.",
        )
    if code in _REFUSED_KEYS or status == 401:
        return _no_keys("The storage does not accept the credentials.", where, said)
    if status == 403 or code == "AccessDenied":
        return _refused_right(where, said)
    if code in _BUSY or status in _BUSY_STATUS:
        return _unavailable("The storage returned a server error.", where, said)
    if code in _NO_BUCKET:
        return BucketMissing(
            "There is no such bucket.",
            where=where,
            found=said,
            next_step="Check its name, or create it: buckets are never created automatically.",
        )
    return StorageRefused(
        "The storage refuses this.", where=where, found=said, next_step="Correct what it names."
    )


def _no_keys(what: str, where: object, found: str) -> NoStorageKeys:
    return NoStorageKeys(what, where=where, found=found, next_step=_KEYS)


def _refused_right(where: object, found: str) -> StorageRefused:
    return StorageRefused(
        "These credentials do not permit this.",
        where=where,
        found=found,
        next_step="Allow them to list, read and write there, or use others.",
    )


def _unavailable(what: str, where: object, found: str) -> StorageUnavailable:
    return StorageUnavailable(
        what,
        where=where,
        found=found,
        next_step="Check network, proxy and address of the storage, and run again: what has "
        "arrived is kept.",
    )
