import pickle

from tasks.core.errors import DeltaMismatch, KawanUsahaError


def every_error() -> list[type[KawanUsahaError]]:
    found, todo = [], [KawanUsahaError]
    while todo:
        cls = todo.pop()
        found.append(cls)
        todo += [each for each in cls.__subclasses__() if each.__module__ == cls.__module__]
    return found


def test_error_says_what_where_expected_found_and_next_step() -> None:
    error = DeltaMismatch("w differs.", where="a", expected=1, found=2, next_step="Do this.")
    assert str(error) == (
        "w differs.\n  where: a\n  expected: 1\n  found: 2\n  next step: Do this."
    )


def test_error_survives_the_way_to_another_process() -> None:
    error = DeltaMismatch("w differs.", where="a", next_step="Do this.")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(again) is DeltaMismatch
    assert again.as_dict() == error.as_dict()


def test_every_error_knows_if_a_retry_helps_and_its_exit_code() -> None:
    assert {cls.exit_code for cls in every_error()} == {1, 2}
    assert {cls.__name__ for cls in every_error() if cls.retryable} == {
        "LockBusy",
        "StorageUnavailable",
        "DownloadCorrupt",
        "HubUnavailable",
        "JudgeUnavailable",
        "UploadCorrupt",
        "WorkerLost",
    }
