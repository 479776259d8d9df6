"""What commands say, and on which stream; what they import, and what is told where it is missing."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from keras_ae.errors import InputError, MissingExtra

INTERRUPTED = 130


def print_json(content: Any) -> None:
    """One JSON object, and nothing else on stdout."""
    typer.echo(json.dumps(content))


@contextmanager
def scikit_learn_imported(what: str) -> Iterator[None]:
    """Says which extra is missing where an import in the block fails."""
    try:
        yield
    except ImportError as error:
        if error.name and error.name.startswith("keras_ae"):
            raise
        raise MissingExtra(what, "train") from error


@contextmanager
def tensorflow_imported(what: str) -> Iterator[None]:
    """Imports TensorFlow without its greetings on stderr; they come from C++, below Python's streams."""
    import tempfile

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryFile() as greetings:
        stderr = os.dup(2)
        os.dup2(greetings.fileno(), 2)
        try:
            with scikit_learn_imported(what):
                yield
                import tensorflow  # noqa: F401
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


@contextmanager
def stages() -> Iterator[Any]:
    """Tells what runs, on stderr: a bar on a terminal, a line a stage otherwise."""
    from rich.console import Console
    from rich.progress import BarColumn as Bar
    from rich.progress import Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        said: list[str] = []

        def tell(what: str, share: float | None = None) -> None:
            if not said or said[-1] != what:
                said.append(what)
                console.print(what, highlight=False)

        yield tell
        return
    with Progress(
        TextColumn("{task.description}"), Bar(), TimeRemainingColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task("starting", total=None)

        def show(what: str, share: float | None = None) -> None:
            bar.update(task, description=what, total=None if share is None else 1.0, completed=share or 0.0)

        yield show


@contextmanager
def rows_bar(what: str) -> Iterator[Any]:
    """A bar of rows on a terminal, from the first batch of several on."""
    bar: Any = None

    def show(done: int, total: int | None) -> None:
        nonlocal bar
        if bar is None and done != total and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            bar = Progress(*columns, console=Console(stderr=True), transient=True)
            bar.add_task(f"{what}, rows")
            bar.start()
        if bar is not None:
            bar.update(bar.task_ids[0], completed=done, total=total)

    try:
        yield show
    finally:
        if bar is not None:
            bar.stop()


def fail(message: str, code: int) -> NoReturn:
    """Ends the program with one line on stderr."""
    print(f"keras-ae: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def pairs_of(argument: str, pairs: Iterable[str]) -> dict[str, Any]:
    """NAME=VALUE by name, the values read as JSON, or else as text."""
    options = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise InputError(f"`{argument}` must be NAME=VALUE. Received: {pair!r}.")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options
