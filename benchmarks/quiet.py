"""How busy other processes keep the machine: what a timing on a shared machine must wait for, and must tell.

Read from Linux's /proc; elsewhere nothing is waited for and nothing told.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_CORES = os.cpu_count() or 1
_STAT = Path("/proc/stat")


def wait_for_quiet(most_busy: float = 0.1, at_most_seconds: float = 20.0) -> None:
    """Waits until, for half a second, at most that share of the processors is busy; not longer than the limit.

    Half a second also lets the idle threads of a worker that has just answered stop spinning.
    """
    limit = time.monotonic() + at_most_seconds
    while True:
        before, started = _busy_seconds(), time.monotonic()
        time.sleep(0.5)
        share = (_busy_seconds() - before) / (time.monotonic() - started) / _CORES
        if share <= most_busy or time.monotonic() > limit:
            return


class Others:
    """The share of the processors that was not to be had, because others, or another machine on the host, used it."""

    def __init__(self) -> None:
        self.theirs = self.all = 0.0

    @contextmanager
    def during(self, process: int) -> Iterator[None]:
        """Counts what is not used by the process that is timed."""
        busy, own, started = _busy_seconds(), _process_seconds(process), time.monotonic()
        yield
        self.theirs += _busy_seconds() - busy - (_process_seconds(process) - own)
        self.all += (time.monotonic() - started) * _CORES

    @property
    def share(self) -> float | None:
        return max(self.theirs, 0.0) / self.all if _STAT.exists() and self.all else None


def _busy_seconds() -> float:
    """Of all processors since the machine started: everything but idle and waiting for input; stolen time is busy."""
    if not _STAT.exists():
        return 0.0
    user, nice, system, _idle, _waiting, irq, softirq, steal = map(int, _STAT.read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS


def _process_seconds(process: int) -> float:
    stat = Path(f"/proc/{process}/stat")
    if not stat.exists():
        return 0.0
    user, system = stat.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS
