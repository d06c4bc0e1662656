"""A process of pytest-xdist, whose code execnet sends."""

import sys

if __name__ == "__main__":  # and not in what multiprocessing starts from it
    exec(eval(sys.stdin.readline()))  # noqa: S102, S307 - as in a Python that execnet starts
