"""What runs and how far it is: told to nobody, to a program, or on a terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Progress = Callable[[str, float | None], None]
"""Is told in a few words what runs, and its share done where that is known."""
_PATIENCE = 2.0
"""Seconds that rows may take without a bar."""


def silent(what: str, share: float | None = None) -> None:
    """Tells nobody."""


@contextmanager
def stages() -> Iterator[Progress]:
    """Tells what runs, on stderr: a bar on a terminal, a line a stage otherwise."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        said: list[str] = []

        def tell(what: str, share: float | None = None) -> None:
            if not said or said[-1] != what:
                said.append(what)
                console.print(what, highlight=False)

        yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def show(what: str, share: float | None = None) -> None:
            bar.update(task, description=what, total=None if share is None else 1.0, completed=share or 0.0)

        yield show


@contextmanager
def rows_bar(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """Is told the rows done, and all where that is known; a bar on a terminal, once it is clear that they take long."""
    began = time.perf_counter()
    bar: Any = None

    def show(done: int, total: int | None) -> None:
        nonlocal bar
        taken = (time.perf_counter() - began) * (1 if total is None else total / max(done, 1))
        if bar is None and done != total and taken > _PATIENCE and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            bar = Bar(*columns, console=Console(stderr=True), transient=True)
            bar.add_task(f"{what}, rows")
            bar.start()
        if bar is not None:
            bar.update(bar.task_ids[0], completed=done, total=total)

    try:
        yield show
    finally:
        if bar is not None:
            bar.stop()
