"""The callback that writes a run's checkpoints, and begins `fit` at the newest."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ae.errors import InputError
from keras_ae.loop import SpanCallback
from keras_ae.replicas import agreement
from keras_ae.runs import STOPPED_BY, Run
from keras_ae.state import kept_by, pack, read, restore, unpack, variables_of

_AGREED = 32
"""Steps after which workers ask each other whether a checkpoint is due."""


class Checkpoints(SpanCallback):
    """Writes checkpoints while `fit` runs, and one at its end; inside epochs too.

    Must be the last callback: what it writes is what the others left. `fit` takes `initial_epoch` from here.

    Args:
        run: that has begun.
        epochs: that `fit` is given.
        callbacks: whose attributes in `checkpointed` are kept: None, numbers, text, lists of those or of arrays.
    """

    def __init__(self, run: Run, epochs: int, callbacks: Sequence[keras.callbacks.Callback] = ()) -> None:
        super().__init__()
        self.run, self.callbacks = run, list(callbacks)
        self.most_steps = run.steps
        self._found = run.found
        self._history: dict[str, list[float]] = {}
        self._steps = self._seen = 0
        self.initial_epoch = 0
        if self._found is not None:
            # Stopped early, nothing is left to train; only the best weights come back.
            self.initial_epoch = epochs if self._found.values["stopped"] else self._found.epoch

    def on_train_begin(self, logs: Any = None) -> None:
        self.run.training = True
        self._agree = agreement()
        if self._found is not None:
            self._history = self._found.values["history"]
            self.model.history.history = {key: list(values) for key, values in self._history.items()}
            self._restore()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch
        if self._found is not None and self._found.step:
            # This epoch has begun already: what other callbacks do then must not be done twice.
            self._restore()
            self.model.steps_done = self._found.step
        if self._found is not None:
            self._found.arrays.clear()  # the memory of weights and moments
            self._found = None
        self._seen = self.model.steps_done or 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        done = self.model.steps_done
        if done is None or done == self._seen:
            return
        self._steps, self._seen = self._steps + done - self._seen, done
        # Workers ask each other at the same steps, and not at each.
        asks = self._agree is list or done % _AGREED == 0 or self.run.steps_are_due(self._steps)
        if asks and self._is_due():
            self._save(self._epoch, done)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for key, value in (logs or {}).items():
            self._history.setdefault(key, []).append(float(value))
        due = self._is_due()
        if self.model.stop_training or epoch + 1 == self.params["epochs"] or due:
            self._save(epoch + 1, 0)

    def _is_due(self) -> bool:
        """A clock, or a signal, is one worker's; to read the variables, and to stop, takes all of them."""
        due = self.run.due(self._steps)
        if self._agree is list:  # and a signal that comes here and now is not forgotten
            return due
        due, *asked = self._agree([due, *(self.run.asked == number for number in STOPPED_BY)])
        self.run.asked = next((number for number, yes in zip(STOPPED_BY, asked, strict=True) if yes), None)
        return due

    def on_train_end(self, logs: Any = None) -> None:
        self.run.training = False

    def _restore(self) -> None:
        assert self._found is not None
        arrays = self._found.arrays
        variables = variables_of(self.model)
        values = [value for key, value in arrays.items() if key.startswith("variable.")]
        if [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
            raise InputError(f"{self.run.folder} must hold the variables of this model. Received: those of another.")
        restore(variables, values)
        for i, (callback, kept) in enumerate(zip(self.callbacks, self._found.values["callbacks"], strict=True)):
            for key, value in unpack(f"callback.{i}", arrays, kept).items():
                setattr(callback, key, value)

    def _save(self, epoch: int, step: int) -> None:
        arrays = {f"variable.{i}": value for i, value in enumerate(read(variables_of(self.model)))}
        kept = []
        for i, callback in enumerate(self.callbacks):
            held, values = pack(f"callback.{i}", kept_by(callback))
            arrays |= held
            kept.append(values)
        self._steps = 0
        stopped = bool(self.model.stop_training)
        self.run.save(epoch, step, arrays, {"history": self._history, "stopped": stopped, "callbacks": kept})
