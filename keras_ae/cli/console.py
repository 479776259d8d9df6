"""What commands say, and on which stream; what they import, and what is told where it is missing."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from keras_ae.errors import InputError, importing
from keras_ae.quiet import greetings_kept_back

INTERRUPTED = 130


def print_json(content: Any) -> None:
    """One JSON object, and nothing else on stdout."""
    typer.echo(json.dumps(content))


@contextmanager
def tensorflow_imported(what: str) -> Iterator[None]:
    """Imports TensorFlow without its greetings."""
    with importing(what, "train"), greetings_kept_back():
        yield
        import tensorflow  # noqa: F401


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
