"""How busy other processes keep the machine: what a timing on a shared machine must wait for, and must tell.

Read from Linux's /proc; elsewhere nothing is waited for and nothing told.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_TICKS = os.sysconf("SC_CLK_TCK")
_CORES = os.cpu_count() or 1
_STAT = Path("/proc/stat")


def wait_for_quiet(most_busy: float = 0.1, at_most_seconds: float = 10.0) -> None:
    """Waits until, for half a second, at most that share of the processors is busy; not longer than the limit.

    Half a second also lets the idle threads of a worker that has just answered stop spinning.
    """
    limit = time.monotonic() + at_most_seconds
    while True:
        before, started = busy_seconds(), time.monotonic()
        time.sleep(0.5)
        share = (busy_seconds() - before) / (time.monotonic() - started) / _CORES
        if share <= most_busy or time.monotonic() > limit:
            return


def quietly(process: int, call: Callable[[], T], most_busy: float = 0.05, tries: int = 3) -> tuple[T, float | None]:
    """What the call gives, and the share of the processors that others than the process it times had meanwhile.

    A call that others disturbed is made again, a few times; the least disturbed counts. Time that the host of a virtual
    machine gave to its other guests counts as others'.
    """
    made: list[tuple[T, float]] = []
    for _ in range(tries):
        wait_for_quiet()
        busy, own, started = busy_seconds(), _process_seconds(process), time.monotonic()
        answer = call()
        theirs = busy_seconds() - busy - (_process_seconds(process) - own)
        made.append((answer, max(theirs, 0.0) / (time.monotonic() - started) / _CORES))
        if made[-1][1] <= most_busy:
            break
    answer, share = min(made, key=lambda one: one[1])
    return answer, share if _STAT.exists() else None


def busy_seconds() -> float:
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
