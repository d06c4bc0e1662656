"""Storage elsewhere: opened by its URL, and what its libraries raise in our own words.

The classes of libraries that need not be installed are made here with the names, modules and
attributes that botocore 1.43, gcsfs 2026.10, google-auth 2.63 and azure-core 1.41 gave them.
"""

import errno
import sys

import fsspec
import pytest

from tasks.core.errors import (
    BucketMissing,
    DiskFull,
    HubUnavailable,
    KawanUsahaError,
    MissingTool,
    NoStorageKeys,
    StorageRefused,
    StorageUnavailable,
    UsageError,
)
from tasks.core.process.ports import free_port
from tasks.core.storage.errors import storage_error
from tasks.core.storage.urls import open_storage, shown, storage_failures
from tasks.explain import explained

WHERE = "s3://bucket/models"


def foreign(path: str, said: str = "no", *, base: type = Exception, **parts: object) -> Exception:
    """Return an exception of a class of another library, by the path of the class."""
    module, _, name = path.rpartition(".")
    error = type(name, (base,), {"__module__": module})(said)
    error.__dict__.update(parts)
    return error


def answered(code: str, status: int, said: str = "no") -> Exception:
    """Return what botocore raises for an answer of S3."""
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    client_error = type("ClientError", (Exception,), {"__module__": "botocore.exceptions"})
    return foreign(f"botocore.errorfactory.{code}", said, base=client_error, response=answer)


def from_(cause: Exception, error: Exception) -> Exception:
    """Return an error as it is when it was raised from its cause."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (foreign("botocore.exceptions.NoCredentialsError"), NoStorageKeys),
        (foreign("google.auth.exceptions.DefaultCredentialsError"), NoStorageKeys),
        (foreign("azure.core.exceptions.ClientAuthenticationError"), NoStorageKeys),
        (ValueError("unable to connect to account for Must provide credentials"), NoStorageKeys),
        (answered("InvalidAccessKeyId", 403), NoStorageKeys),
        (answered("SignatureDoesNotMatch", 403), NoStorageKeys),
        (foreign("gcsfs.retry.HttpError", code=401), NoStorageKeys),
        (from_(answered("AccessDenied", 403), PermissionError("no")), StorageRefused),
        (OSError("Forbidden: https://storage.googleapis.com/b\nno"), StorageRefused),
        (foreign("azure.core.exceptions.HttpResponseError", status_code=403), StorageRefused),
        (foreign("botocore.exceptions.ParamValidationError"), StorageRefused),
        (from_(answered("NoSuchBucket", 404), FileNotFoundError("no")), BucketMissing),
        (
            foreign("azure.core.exceptions.X", status_code=404, error_code="ContainerNotFound"),
            BucketMissing,
        ),
        (from_(answered("SlowDown", 503), OSError(errno.EBUSY, "slow")), StorageUnavailable),
        (from_(answered("InternalError", 500), OSError(errno.EIO, "no")), StorageUnavailable),
        (
            from_(answered("ConditionalRequestConflict", 409), OSError(errno.EIO, "no")),
            StorageUnavailable,
        ),
        (foreign("gcsfs.retry.HttpError", code=429), StorageUnavailable),
        (foreign("aiohttp.client_exceptions.ClientResponseError", status=502), StorageUnavailable),
        (foreign("fsspec.exceptions.FSTimeoutError", base=TimeoutError), StorageUnavailable),
        (foreign("requests.exceptions.ConnectionError", base=OSError), StorageUnavailable),
        (foreign("botocore.exceptions.FlexibleChecksumError"), StorageUnavailable),
        (foreign("gcsfs.checkers.ChecksumError"), StorageUnavailable),
        (answered("XMinioStorageFull", 507), DiskFull),
    ],
    ids=lambda given: getattr(given, "__name__", None) or repr(given)[:60],
)
def test_what_a_storage_library_raises_is_told_by_its_remedy(
    error: Exception, kind: type[KawanUsahaError]
) -> None:
    found = storage_error(error, WHERE)
    assert type(found) is kind
    assert found.where == WHERE
    assert found.next_step
    assert type(explained(error)) is kind, "for a stage and for a command as well"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bug"),
        OSError(errno.EIO, "the disk"),
        foreign("google.protobuf.message.DecodeError"),
        foreign("aiohttpish.ClientError"),
        FileNotFoundError(errno.ENOENT, "no", "here"),
    ],
)
def test_what_no_storage_library_has_raised_stays_what_it_is(error: Exception) -> None:
    assert storage_error(error) is None


def test_an_error_of_ours_is_not_explained_by_what_it_was_raised_from() -> None:
    ours = from_(answered("SlowDown", 503), HubUnavailable("The Hub returned a server error."))
    assert storage_error(from_(ours, RuntimeError())) is None


def test_a_missing_file_is_no_failure_of_the_storage() -> None:
    missing = from_(answered("NoSuchKey", 404), FileNotFoundError("no such key"))
    with pytest.raises(FileNotFoundError), storage_failures(WHERE):
        raise missing


def test_a_server_that_is_not_there_may_be_back_later() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(StorageUnavailable) as told, storage_failures(WHERE):
        fsspec.filesystem("http", skip_instance_cache=True).cat_file(f"{address}/x")
    assert told.value.retryable
    assert "ClientConnectorError" in str(told.value.found)


def test_a_bucket_behind_a_server_that_is_not_there_may_be_back_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("s3fs")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    bucket = fsspec.filesystem("s3", key="a", secret="b", skip_instance_cache=True)
    with pytest.raises(StorageUnavailable), storage_failures(WHERE):
        bucket.cat_file("bucket/x")


def without(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have fsspec find this package not installed, as far as it is."""
    monkeypatch.setitem(sys.modules, package, None)
    known = sys.modules["fsspec.registry"]._registry  # type: ignore[attr-defined]
    for protocol in ("s3", "gs", "abfs", "oci"):
        monkeypatch.delitem(known, protocol, raising=False)


@pytest.mark.parametrize(
    ("url", "package"),
    [("s3://b/x", "s3fs"), ("gs://b/x", "gcsfs"), ("abfs://b/x", "adlfs"), ("oci://b/x", "ocifs")],
)
def test_a_protocol_without_its_package_names_the_package(
    url: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(package, monkeypatch)
    with pytest.raises(MissingTool) as told:
        open_storage(url, "publish.target")
    assert f"`pip install {package}`" in str(told.value.next_step)


def test_an_unknown_protocol_names_the_setting_and_no_password() -> None:
    with pytest.raises(UsageError) as told:
        open_storage("carrier-pigeon://warung:sesame@coop", "publish.target")
    assert told.value.where == "publish.target"
    assert "sesame" not in str(told.value)


def test_an_address_is_shown_without_user_and_password() -> None:
    assert shown("s3://key:secret@bucket/models/") == "s3://bucket/models"
