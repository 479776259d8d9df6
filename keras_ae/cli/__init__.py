"""The command line: each command parses, calls one function, and prints. Heavy imports are inside the commands."""

import os
import sys
from typing import Annotated, Any

import typer

from keras_ae import __version__
from keras_ae.cli import artifacts, fitting, judging, pages, rows, speeds, starting, tuning
from keras_ae.cli.console import INTERRUPTED, fail
from keras_ae.errors import KerasAEError

__all__ = ["app", "main"]

app = typer.Typer(
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # half of the time to --help would go into importing what paints it
    help="Autoencoders for Keras 3: one fit leaves one artifact that is proven to run everywhere.",
)

_COMMANDS = (
    fitting.fit,
    tuning.tune,
    starting.recipes,
    artifacts.info,
    starting.doctor,
    starting.init,
    artifacts.verify,
    rows.encode,
    rows.decode,
    rows.reconstruct,
    rows.impute,
    rows.score,
    judging.monitor,
    rows.explain,
    rows.classify,
    rows.generate,
    artifacts.export,
    pages.serve,
    speeds.bench,
    judging.evaluate,
    judging.report,
    pages.explore,
)
"""In the order of `keras-ae --help`."""

for _command in _COMMANDS:
    app.command()(_command)

# Typer carries its own copy of Click and exports only this subclass of what a wrong command line raises.
_UsageError: Any = typer.BadParameter.__base__


def _version(show: bool) -> None:
    if show:
        typer.echo(f"keras-ae {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Runs the command line: errors are one line on stderr; exit 2 for bad input, 130 for Ctrl-C, 75 for SIGTERM
    during `fit`, 1 for what failed.
    """
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        if code == INTERRUPTED:  # Typer makes an exit code of Ctrl-C, and says nothing
            raise KeyboardInterrupt
        sys.exit(code)
    except KerasAEError as error:
        fail(str(error), error.exit_code)
    except _UsageError as error:
        fail(_usage(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        fail("interrupted; nothing was changed", INTERRUPTED)
    except MemoryError as error:
        fail(f"out of memory: {error}", 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except OSError as error:
        fail(str(error), 1)


def _usage(error: Any) -> str:
    """What is wrong with a command line; Typer's own message does not repeat a value of the wrong type or size."""
    details = getattr(error.__cause__, "errors", None)
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    return f"{message}. Received: {details()[0]['input']}." if details else message
