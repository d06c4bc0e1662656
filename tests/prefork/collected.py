"""`collected.py SOCKET PATH...`: collects the tests at the paths, and forks on demand.

What is forked has imported all test modules, and whatever they import.
"""

import contextlib
import gc
import io
import sys

import pytest

from tests.prefork.server import serve


def main() -> None:
    """Collect, and serve. What cannot be collected is told by whoever collects it again."""
    _, socket, *paths = sys.argv
    # FastChat replaces both when it is imported.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(sys.stderr):
        pytest.main(["--collect-only", "--capture=no", *paths])
    gc.freeze()
    serve(socket)


main()
