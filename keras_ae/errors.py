"""What can go wrong, as one tree:

KerasAEError
├── InputError      what the user gave: a source, rows, an option, a target folder
├── ArtifactError   a folder that is not a whole, unchanged artifact
├── ExportError     a graph that does not leave, or does not agree with Keras
├── ServiceError    a server that can't be reached, or gives no answer in time
└── MissingExtra    a package that an extra of keras-ae brings
"""


class KerasAEError(Exception):
    """Base of every error that this package raises on purpose; the message is for the user."""

    exit_code = 1


class InputError(KerasAEError, ValueError):
    """Bad input: the message gives the rule, then what came."""

    exit_code = 2


class ArtifactError(KerasAEError, ValueError):
    """Not an artifact, damaged, or of a version that this release can't read."""

    exit_code = 2


class ExportError(KerasAEError, RuntimeError):
    """An export failed or disagrees with Keras; nothing was written."""

    exit_code = 1


class ServiceError(KerasAEError, ConnectionError):
    """A server gave no answer, within the deadline and the retries of a call."""

    exit_code = 1


class MissingExtra(KerasAEError, ImportError):  # noqa: N818  (named for what it says)
    """A command needs packages that are not installed; the message says how to get them."""

    exit_code = 2

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs packages that are not installed: pip install 'keras-ae[{extra}]'.")
