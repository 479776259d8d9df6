"""What a killed run leaves, so that it goes on as if nothing had happened: a folder of checkpoints. NumPy only.

A checkpoint is one .npz: arrays, and a JSON text of everything else. The sha256 of its bytes is in its name, so that
one rename publishes both. Nothing in it is pickle.
"""

import contextlib
import json
import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from keras_ae.artifact import locked, sha256
from keras_ae.errors import InputError, Interrupted

_NAME = re.compile(r"epoch-(\d{6})-step-(\d{9})-([0-9a-f]{64})\.npz")
_LOCK = "lock"
_META = "meta"
STOPPED_BY = {signal.SIGTERM: ("SIGTERM", 75), signal.SIGINT: ("Ctrl-C", 130)}


@dataclass(frozen=True)
class Checkpoint:
    """One that was read, and is whole.

    Attributes:
        epoch: epochs that are done.
        step: steps of the next epoch that are done.
        arrays: by name.
        values: anything else, as JSON holds it.
    """

    epoch: int
    step: int
    arrays: dict[str, np.ndarray]
    values: dict[str, Any]

    def __str__(self) -> str:
        return f"epoch {self.epoch}" + (f" and {self.step:,} steps of the next" if self.step else "")


class Run:
    """The checkpoints of one training run. As a context manager it holds the folder, and SIGTERM and Ctrl-C leave a
    checkpoint behind before they stop the run.

    Args:
        folder: made where it is missing.
        minutes: from one checkpoint to the next, at the end of the span of steps that is going on then; 0 for every
            span and every epoch.
        steps: from one checkpoint to the next, where that is sooner; None for minutes alone. What is due in an epoch
            is written there: training goes on in the middle of it.
        keep: newest checkpoints that stay.
        anew: whether checkpoints that are there are removed when it begins.

    Attributes:
        writes: whether this process writes the checkpoints; of several workers one does, and all of them read.

    Raises:
        InputError: for numbers that make no sense.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        minutes: float = 0.5,
        steps: int | None = None,
        keep: int = 3,
        anew: bool = False,
    ) -> None:
        if minutes < 0 or keep < 1 or (steps is not None and steps < 1):
            raise InputError(
                "`minutes` must be 0 or more, `steps` and `keep` 1 or more. "
                f"Received: minutes {minutes}, steps {steps}, keep {keep}."
            )
        self.folder, self.minutes, self.steps, self.keep, self.anew = Path(folder), minutes, steps, keep, anew
        self.description: dict[str, Any] = {}
        self.found: Checkpoint | None = None
        self.damaged: list[str] = []
        self.training = False
        self.writes = True
        self.asked: int | None = None
        self._written = time.monotonic()
        self._last: Checkpoint | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "Run":
        self.training, self.asked = False, None
        with contextlib.ExitStack() as stack:
            if self.writes:
                self._hold(stack)
            stack.enter_context(self._signals())
            self._open = stack.pop_all()
        return self

    def _hold(self, stack: contextlib.ExitStack) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(self.folder / _LOCK, self.folder))
            for left in self.folder.glob("*.partial"):  # of a run that was killed inside a write
                left.unlink()
        except OSError as error:
            raise InputError(f"{self.folder} could not be written: {error.strerror or error}.") from error

    def __exit__(self, *exception: object) -> None:
        self._open.close()
        if not self.writes:
            return
        with contextlib.suppress(OSError):
            self.folder.rmdir()  # where it holds nothing

    def notes(self) -> list[str]:
        """What people should know of a run that went on."""
        notes = []
        if self.found is not None:
            notes.append(f"training went on after {self.found}, and its seconds are since then")
        if self.damaged:
            notes.append(f"damaged checkpoints were passed over for the one before: {', '.join(self.damaged)}")
        return notes

    def begin(self, description: Mapping[str, Any]) -> None:
        """Says what the run is of, options and data, and finds the newest whole checkpoint, if there is one; `damaged`
        then names those whose bytes have changed.

        Raises:
            InputError: for checkpoints of another run, naming what differs; or where none is whole.
        """
        self.description = json.loads(json.dumps(description, default=repr))
        if self.anew and self.writes:
            for path in self.checkpoints():
                path.unlink()
        self.found, self.damaged = None, []
        for path in [] if self.anew else self.checkpoints():
            if self.found is None:
                self.found = _read(path)
            if self.found is None:
                self.damaged.append(path.name)
        self._last = self.found
        self._written = time.monotonic()
        if self.found is None and self.damaged:
            raise InputError(
                f"{self.folder} must hold a whole checkpoint, or none. Received: {', '.join(self.damaged)}, damaged."
            )
        theirs = self.description if self.found is None else self.found.values["run"]
        differing = [
            key for key in sorted({*self.description, *theirs}) if self.description.get(key) != theirs.get(key)
        ]
        if differing:
            both = "; ".join(
                f"{key} {_short(self.description.get(key))}, there {_short(theirs.get(key))}" for key in differing
            )
            raise InputError(f"{self.folder} must be gone on with as it began. Received: {both}.")

    def due(self, steps: int) -> bool:
        """Whether a checkpoint is, `steps` after the last one."""
        late = time.monotonic() - self._written >= 60 * self.minutes
        return late or self.asked is not None or self.steps_are_due(steps)

    def steps_are_due(self, steps: int) -> bool:
        """Whether a checkpoint is for the number of steps alone."""
        return self.steps is not None and steps >= self.steps

    def save(self, epoch: int, step: int, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> None:
        """Writes a checkpoint whole, then removes those that are too old. Stops the run there if that was asked.

        Raises:
            InputError: where it can't be written; the earlier ones stay.
            Interrupted: after SIGTERM or Ctrl-C.
        """
        if self.writes:
            self._write(epoch, step, arrays, values)
        self._written, self._last = time.monotonic(), Checkpoint(epoch, step, {}, {})
        if self.asked is not None:
            raise self._interrupted(self.asked)

    def _write(self, epoch: int, step: int, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> None:
        content = {**values, "epoch": epoch, "step": step, "run": self.description}
        text = np.frombuffer(json.dumps(content).encode(), "uint8")
        temporary = None
        try:
            handle, temporary = tempfile.mkstemp(suffix=".partial", dir=self.folder)
            with os.fdopen(handle, "w+b") as file:
                np.savez(file, allow_pickle=False, **{**arrays, _META: text})
                file.flush()
                os.fsync(file.fileno())
            name = f"epoch-{epoch:06d}-step-{step:09d}-{sha256(Path(temporary))}.npz"
            os.replace(temporary, self.folder / name)
            self._sync()
            for path in self.checkpoints()[self.keep :]:
                path.unlink()
        except OSError as error:
            raise InputError(
                f"{self.folder} must take a checkpoint; the earlier ones are whole. "
                f"Received: {error.strerror or error}."
            ) from error
        finally:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)

    def checkpoints(self) -> list[Path]:
        """Files of the checkpoints, the newest first."""
        if not self.folder.is_dir():
            return []
        return sorted((path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)

    def remove(self) -> None:
        """Removes the checkpoints, and the folder where it holds nothing else."""
        for path in self.checkpoints():
            path.unlink()
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _sync(self) -> None:
        """Makes the rename itself last, where folders can be synced."""
        if os.name == "nt":
            return
        directory = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():  # others can't have handlers
            yield
            return
        before = {number: signal.signal(number, self._stop) for number in STOPPED_BY}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """In training the end of a span is waited for, where the model is whole; a second signal does not wait."""
        if not self.training or self.asked is not None:
            raise self._interrupted(number)
        self.asked = number

    def _interrupted(self, number: int) -> Interrupted:
        name, code = STOPPED_BY[signal.Signals(number)]
        if self._last is None:
            return Interrupted(f"Stopped by {name} before the first checkpoint; nothing was changed.", code)
        return Interrupted(
            f"Stopped by {name}; {self.folder} holds what was trained until {self._last}. "
            f"--resume goes on from there, in Python resume={str(self.folder)!r}.",
            code,
        )


def _read(path: Path) -> Checkpoint | None:
    """A checkpoint, or None where its bytes are not those that were written."""
    named = _NAME.fullmatch(path.name)
    try:
        if named is None or sha256(path) != named[3]:
            return None
        with np.load(path, allow_pickle=False) as held:
            arrays = {key: held[key] for key in held.files}
    except OSError as error:
        raise InputError(f"{path} could not be read: {error.strerror or error}.") from error
    return Checkpoint(int(named[1]), int(named[2]), arrays, json.loads(arrays.pop(_META).tobytes()))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
