"""Failures of directories and buckets elsewhere, in our own words: what fsspec's libraries raise.

s3fs, gcsfs and adlfs turn some answers into OSError and let others through as botocore, aiohttp,
google or azure raise them. An exception is known by its class and the module that the class is
from, then by the answer's code and status; nothing is imported for it, because none of these
packages need be installed. The invariant: what is not known here stays what it is.
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
    "OperationAborted",  # this and the next: somebody else writes the same name right now
    "ConditionalRequestConflict",
}
_BUSY_STATUS = {408, 425, 429, 500, 502, 503, 504}

_KEYS = (
    "Keys come from the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) "
    "for s3://, GOOGLE_APPLICATION_CREDENTIALS for gs://, AZURE_STORAGE_CONNECTION_STRING for "
    "abfs://. Set them where the run works: in the worker's environment too."
)


def storage_error(error: BaseException, where: object = None) -> KawanUsahaError | None:
    """Return what an exception of a storage library means, None for one that is not known.

    Looks at the exception and at what it was raised from, as far as an error of ours.
    """
    for each in _causes(error):
        found = _known(each, where)
        if found is not None:
            return found
    return None


def came_changed(error: BaseException) -> bool:
    """Return whether a library's own checksum says that what arrived is not what is there."""
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
        return _unavailable("What arrives from the storage has another checksum.", where, said)
    if names & _NO_KEYS:
        return _no_keys("There are no keys for this storage.", where, said)
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
    """Return what is said in no other way: gcsfs has a bare OSError, adlfs a ValueError for it."""
    words = str(error)
    if isinstance(error, OSError) and error.errno is None and words.startswith("Forbidden: "):
        return _refused_right(where, words)
    if isinstance(error, ValueError) and words.startswith("unable to connect to account for"):
        return _no_keys("There are no keys for this storage.", where, words)
    return None


def _status_of(error: Any) -> int | None:
    """Return the status of the answer that an exception stands for, None without an answer."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(response, "status_code", None)
    for name in ("status_code", "status", "code"):
        status = getattr(error, name, None) if status is None else status
    return int(status) if str(status).isdigit() else None


def _code_of(error: Any) -> str | None:
    """Return the storage's own word for what went wrong."""
    response = getattr(error, "response", None)
    answer = response.get("Error", {}) if isinstance(response, dict) else {}
    code = answer.get("Code") or getattr(error, "error_code", None)
    return None if code is None else str(code)


def _of_answer(status: int | None, code: str | None, where: object, said: str) -> KawanUsahaError:
    if code in _NO_ROOM or status == 507:
        return DiskFull(
            "There is no room left at the storage.",
            where=where,
            found=said,
            next_step="Remove what is not needed there, or name another place.",
        )
    if code in _REFUSED_KEYS or status == 401:
        return _no_keys("The storage does not accept the keys.", where, said)
    if status == 403 or code == "AccessDenied":
        return _refused_right(where, said)
    if code in _BUSY or status in _BUSY_STATUS:
        return _unavailable("The storage fails to answer.", where, said)
    if code in _NO_BUCKET:
        return BucketMissing(
            "There is no such bucket.",
            where=where,
            found=said,
            next_step="Check its name, or make it: no bucket is made by itself.",
        )
    return StorageRefused(
        "The storage refuses this.", where=where, found=said, next_step="Correct what it names."
    )


def _no_keys(what: str, where: object, found: str) -> NoStorageKeys:
    return NoStorageKeys(what, where=where, found=found, next_step=_KEYS)


def _refused_right(where: object, found: str) -> StorageRefused:
    return StorageRefused(
        "These keys do not have the right to do this.",
        where=where,
        found=found,
        next_step="Allow them to list, read and write there, or use other keys.",
    )


def _unavailable(what: str, where: object, found: str) -> StorageUnavailable:
    return StorageUnavailable(
        what,
        where=where,
        found=found,
        next_step="Check network, proxy and address of the storage, and run again: what has "
        "arrived is kept.",
    )
