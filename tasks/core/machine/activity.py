"""What is running now: the processes that hold a lock of a home directory or of a device.

Deployments are not among them: `serving.observe.status` asks those.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tasks.core.files.locks import Holder, holders_in
from tasks.core.machine.devices import builds


@dataclass(frozen=True)
class Running:
    """One process: its work, when it began, and every lock that it holds."""

    what: str
    pid: int
    host: str
    since: datetime
    holds: tuple[Holder, ...]

    def __str__(self) -> str:
        """Return one line for the process and one for each lock."""
        head = f"{self.what}: running since {_time(self.since)} (pid {self.pid} on {self.host})"
        return "\n".join([head, *(f"  holds {h.lock} since {_time(h.since)}" for h in self.holds)])


def running_work(home: Path) -> list[Running]:
    """Return the processes that work under home now or hold a device, the oldest first."""
    places = (home / "store" / ".locks", home / "serving")
    holders = [*(holder for place in places for holder in holders_in(place)), *builds()]
    by_process: dict[tuple[str, int], list[Holder]] = {}
    for holder in sorted(holders, key=lambda holder: holder.since):
        by_process.setdefault((holder.host, holder.pid), []).append(holder)
    return [
        Running(holds[0].what, pid, host, holds[0].since, tuple(holds))
        for (host, pid), holds in by_process.items()
    ]


def _time(moment: datetime) -> str:
    return f"{moment.astimezone():%F %T}"
