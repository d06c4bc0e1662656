"""Strike runs on a real Prefect server and worker in many ways, and show what came of each.

    python -m tests.benchmarks.bench_recovery [CASE ...]

Makes a tiny base, a delta and data, a Hub that serves them, a home with Prefect up in it, and an
undisturbed build of the recipe. Each case then begins without the artifact of the stage that it
strikes. Words name the cases to play by what their rows begin with; without any, all are played.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

# Libraries read these when they are imported.
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

from tests.recovery import strikes
from tests.recovery.cases import HEAD, Row, cancelled, failed, killed, starved, together
from tests.recovery.machine import Machine, machine
from tests.recovery.strikes import DOWNLOAD, EVALUATE, FINETUNE, MERGE

Case = Callable[[Machine], Iterable[Row]]


def main() -> None:
    """Print a row a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}")
    wanted = parser.parse_args().cases or list(CASES)
    with tempfile.TemporaryDirectory(prefix="kawan-usaha-recovery-") as name:
        os.environ["KAWAN_USAHA_LOCKS"] = str(Path(name) / "locks")
        (Path(name) / "world").mkdir()
        with machine(Path(name)) as struck:
            print(HEAD, flush=True)
            for case in wanted:
                for row in CASES[case](struck):
                    print(row, flush=True)


def _killed(what: str, moment: strikes.Moment, strike: strikes.Strike) -> Case:
    return lambda struck: [killed(struck, what, moment, strike)]


def _cancelled(moment: strikes.Moment) -> Case:
    return lambda struck: [cancelled(struck, moment)]


CASES: dict[str, Case] = {
    "flow-download": _killed("the flow's process", DOWNLOAD, strikes.kill_flow),
    "flow-merge": _killed("the flow's process", MERGE, strikes.kill_flow),
    "flow-finetune": _killed("the flow's process", FINETUNE, strikes.kill_flow),
    "worker": _killed("the worker", FINETUNE, strikes.kill_worker),
    "server": _killed("the server", FINETUNE, strikes.kill_server),
    "everything": _killed("everything at once", FINETUNE, strikes.kill_everything),
    "cancel-download": _cancelled(DOWNLOAD),
    "cancel-merge": _cancelled(MERGE),
    "cancel-finetune": _cancelled(FINETUNE),
    "cancel-evaluate": _cancelled(EVALUATE),
    "together": lambda struck: [together(struck)],
    "exceptions": failed,
    "memory": lambda struck: [starved(struck)],
}


if __name__ == "__main__":
    main()
