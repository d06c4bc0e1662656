"""A slow disk for a program under test: each read of weights takes SLOW_DISK_S seconds longer."""

import os
import time

_preadv = os.preadv
_LONGER_S = float(os.environ.get("SLOW_DISK_S", "0.5"))


def preadv(*arguments: object) -> int:
    time.sleep(_LONGER_S)
    return _preadv(*arguments)  # type: ignore[arg-type]


os.preadv = preadv  # type: ignore[assignment]
