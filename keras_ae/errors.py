"""What can go wrong, as one tree:

KerasAEError
├── InputError      what the user gave: a source, rows, an option, a target folder
│   └── CellError   a cell of a table that is no finite number, where numbers are read
├── ArtifactError   a folder that is not a whole, unchanged artifact
├── ExportError     a graph that does not leave, or does not agree with Keras
├── DivergenceError a loss that is no longer finite
├── WorkerLost      a run of several workers, one of which died; it can go on
├── ServiceError    a server that can't be reached, or gives no answer in time
└── MissingExtra    a package that an extra of keras-ae brings

KeyboardInterrupt
└── Interrupted     a run that SIGTERM or Ctrl-C stopped, and that can go on
"""

from collections.abc import Iterator
from contextlib import contextmanager


class KerasAEError(Exception):
    """Base of every error that this package raises on purpose; the message is for the user."""

    exit_code = 1


class InputError(KerasAEError, ValueError):
    """Bad input: the message gives the rule, then what came."""

    exit_code = 2


class CellError(InputError):
    """A cell that is missing, or text, where a table is read as an array of numbers."""


class ArtifactError(KerasAEError, ValueError):
    """Not an artifact, damaged, or of a version that this release can't read."""

    exit_code = 2


class ExportError(KerasAEError, RuntimeError):
    """An export failed or disagrees with Keras; nothing was written."""


class DivergenceError(KerasAEError, ArithmeticError):
    """A term of the loss, or a weight, is no longer finite; the model holds the last weights that were good.

    Attributes:
        terms: by name; `gradient` where each term is finite and the weights are not.
        epoch: of the step, from 1.
        step: of that epoch, from 1; None where it could not be found.
        rows: of the training rows, those that make it so alone, or else the whole batch; None as with `step`.
    """

    def __init__(
        self, message: str, terms: tuple[str, ...], epoch: int, step: int | None, rows: tuple[int, ...] | None
    ) -> None:
        super().__init__(message)
        self.terms, self.epoch, self.step, self.rows = terms, epoch, step, rows


class Interrupted(KeyboardInterrupt):
    """SIGTERM or Ctrl-C stopped a run after it wrote a checkpoint. It is no Exception, as KeyboardInterrupt is none: it
    may be raised inside TensorFlow or Keras, which catch each Exception and raise one of their own.

    Attributes:
        exit_code: 75 for SIGTERM, the system's EX_TEMPFAIL, "try again later"; 130 for Ctrl-C.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class WorkerLost(KerasAEError, RuntimeError):  # noqa: N818  (named for what it says)
    """A worker of several has died; the others stopped, and the run can go on from its checkpoints."""

    exit_code = 75  # as of SIGTERM: try again later


class ServiceError(KerasAEError, ConnectionError):
    """A server gave no answer, within the deadline and the retries of a call."""


class MissingExtra(KerasAEError, ImportError):  # noqa: N818  (named for what it says)
    """A command needs packages that are not installed; the message says how to get them."""

    exit_code = 2

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs packages that are not installed: pip install 'keras-ae[{extra}]'.")


@contextmanager
def importing(what: str, extra: str) -> Iterator[None]:
    """Raises MissingExtra where a package that the block imports is not there."""
    try:
        yield
    except ImportError as error:
        if isinstance(error, MissingExtra) or (error.name or "").startswith("keras_ae"):
            raise
        raise MissingExtra(what, extra) from error


@contextmanager
def reading(source: object, kind: str, *caught: type[Exception]) -> Iterator[None]:
    """Raises InputError where the block fails to read a source as what it should be; what this package says of it
    stays. Without `caught` it is any failure, for libraries whose errors for damaged bytes have no common base.
    """
    try:
        yield
    except KerasAEError:
        raise
    except Exception as error:
        if caught and not isinstance(error, caught):
            raise
        raise InputError(f"{source} is not a readable {kind}: {error}") from error
