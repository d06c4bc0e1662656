"""A slow disk for a program under test: each read of weights takes half a second longer."""

import os
import time

_preadv = os.preadv


def preadv(*arguments: object) -> int:
    time.sleep(0.5)
    return _preadv(*arguments)  # type: ignore[arg-type]


os.preadv = preadv  # type: ignore[assignment]
