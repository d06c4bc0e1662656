"""`collected.py SOCKET PATH...`: collects the tests at the paths, and forks on demand.

What is forked has imported all test modules, and whatever they import.
"""

import contextlib
import gc
import io
import sys
from collections.abc import Generator

import pytest

from tests.prefork.server import serve


class _Streams:
    """What stands for these while a module is imported ends with it, as where pytest captures.

    FastChat has a logger stand for both, and Prefect keeps whatever it finds to log to.
    """

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport]:
        with contextlib.redirect_stdout(sys.stdout), contextlib.redirect_stderr(sys.stderr):
            return (yield)


def main() -> None:
    """Collect, and serve. What cannot be collected is told by whoever collects it again."""
    _, socket, *paths = sys.argv
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main(["--collect-only", "--capture=no", *paths], plugins=[_Streams()])
    gc.freeze()
    serve(socket)


main()
