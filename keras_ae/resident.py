"""Keras's own `fit`, fed by row numbers: arrays stay resident and the compiled step gathers its batch from them.

With plain `fit` on arrays a small model spends its time in the input pipeline and in Python between steps. Here the data set
that Keras iterates holds only row numbers, many steps run in one call (`steps_per_execution`), and the step, with its
gather, is one compiled graph. Callbacks, History, validation and the progress bar are Keras's.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_MOST_BYTES = 4 << 30
_STEPS_COMPILED = 256
_STEPS_PLAIN = 32
_BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_CONVOLUTIONS += (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)


class _Rows:
    """Rows resident under one name; a variable, so that a later fit's rows need no new trace."""

    def __init__(self) -> None:
        self.variables: dict[str, tf.Variable] = {}

    def put(self, name: str, x: Any) -> None:
        held = self.variables.get(name)
        if held is not None and held.dtype == x.dtype and held.shape[1:] == x.shape[1:]:
            held.assign(x)
        else:
            self.variables[name] = tf.Variable(
                x, shape=(None, *x.shape[1:]), dtype=x.dtype, trainable=False, name=f"{name}_rows"
            )

    def take(self, data: Any) -> Any:
        """The batch that a data set's element stands for; anything but our row numbers is the batch itself."""
        if isinstance(data, dict) and len(data) == 1 and next(iter(data)) in ("train_rows", "validation_rows"):
            name, index = next(iter(data.items()))
            return tf.gather(self.variables[name], index)
        return data


class ResidentModel(keras.Model):
    """A Keras model whose `fit` on arrays without targets runs on resident rows; anything else runs as in Keras."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rows = _Rows()
        self._epoch = tf.Variable(0, dtype="int64", trainable=False)
        self._traced_steps: int | None = None

    def compile(self, *args: Any, jit_compile: Any = "auto", **kwargs: Any) -> None:
        """Keras's `compile`; `jit_compile="auto"` compiles the step unless the model holds convolutions.

        XLA's convolutions on the CPU are slower than TensorFlow's oneDNN kernels, everything else is faster
        (benchmarks/results).
        """
        if jit_compile == "auto":
            jit_compile = not any(isinstance(layer, _CONVOLUTIONS) for layer in self._flatten_layers())
        super().compile(*args, jit_compile=jit_compile, **kwargs)
        self._chosen_steps = self.steps_per_execution

    def fit(self, x: Any = None, y: Any = None, batch_size: int | None = None, **kwargs: Any) -> Any:
        """Keras's `fit`. Arrays without targets stay resident, and steps run several to a call unless `compile` was given
        `steps_per_execution` or a callback looks at single batches."""
        if not self.compiled or not self._can_stay(x) or y is not None or self._asks_for_more(kwargs):
            return super().fit(x, y, batch_size=batch_size, **kwargs)
        x = np.asarray(x)
        self._check_rows("x", x)
        batch = min(batch_size or 32, len(x))
        validation = self._resident_validation(kwargs, batch)
        shuffle = kwargs.pop("shuffle", True)
        self._rows.put("train_rows", x)
        self._epoch.assign(kwargs.get("initial_epoch", 0) - 1)
        seed = int(keras.random.randint((), 0, 2**31 - 1)) if shuffle else None
        steps = self._steps_a_call(kwargs.get("callbacks") or (), math.ceil(len(x) / batch))
        callbacks = [*_as_list(kwargs.pop("callbacks", None)), _CountEpochs(self._epoch)]
        self.steps_per_execution = steps
        try:
            return super().fit(
                _row_numbers("train_rows", len(x), batch, seed, self._epoch),
                callbacks=callbacks,
                shuffle=False,  # the row numbers come shuffled
                **{**kwargs, **validation},
            )
        finally:
            self.steps_per_execution = self._chosen_steps

    def make_train_function(self, force: bool = False) -> Any:
        # The number of steps in a call is traced into Keras's function.
        stale = self._traced_steps is not None and self._traced_steps != self.steps_per_execution
        self._traced_steps = self.steps_per_execution
        return super().make_train_function(force=force or stale)

    def train_step(self, data: Any) -> Any:
        return super().train_step(self._rows.take(data))

    def test_step(self, data: Any) -> Any:
        return super().test_step(self._rows.take(data))

    @staticmethod
    def _can_stay(x: Any) -> bool:
        return isinstance(x, np.ndarray) and x.dtype.kind in "biuf" and x.nbytes <= _MOST_BYTES

    @staticmethod
    def _asks_for_more(kwargs: dict[str, Any]) -> bool:
        ours = {"epochs", "verbose", "callbacks", "validation_data", "validation_freq", "validation_batch_size"}
        ours |= {"shuffle", "initial_epoch"}
        return any(value is not None for name, value in kwargs.items() if name not in ours) or tf.distribute.has_strategy()

    def _check_rows(self, name: str, x: np.ndarray) -> None:
        if x.shape[1:] != self.input_shape[1:] or not len(x):
            wanted = ", ".join(str(n) for n in self.input_shape[1:])
            raise ValueError(f"`{name}` must have shape (rows, {wanted}). Received: {x.shape}.")

    def _resident_validation(self, kwargs: dict[str, Any], batch: int) -> dict[str, Any]:
        data = kwargs.get("validation_data")
        if isinstance(data, list | tuple) and len(data) == 1:
            data = data[0]
        if not self._can_stay(data):
            return {}
        assert data is not None
        self._check_rows("validation_data", data)
        self._rows.put("validation_rows", data)
        size = min(kwargs.get("validation_batch_size") or max(batch, 1024), len(data))
        return {
            "validation_data": _row_numbers("validation_rows", len(data), size, None, None),
            "validation_batch_size": None,
        }

    def _steps_a_call(self, callbacks: Any, steps_an_epoch: int) -> int:
        looks_at_batches = any(
            getattr(type(callback), hook) is not getattr(keras.callbacks.Callback, hook)
            for callback in _as_list(callbacks)
            for hook in _BATCH_HOOKS
            if isinstance(callback, keras.callbacks.Callback)
        )
        if self._chosen_steps != 1 or looks_at_batches or self.run_eagerly:
            return int(self._chosen_steps)
        return min(steps_an_epoch, _STEPS_COMPILED if self.jit_compile else _STEPS_PLAIN)


class _CountEpochs(keras.callbacks.Callback):
    """Tells the data set which epoch it shuffles for, so that the order follows from (seed, epoch)."""

    def __init__(self, counter: tf.Variable) -> None:
        super().__init__()
        self.counter = counter

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.counter.assign(epoch)


def _row_numbers(name: str, rows: int, batch: int, seed: int | None, epoch: tf.Variable | None) -> tf.data.Dataset:
    """Batches of row numbers: one element a step, the last one short; shuffled by (seed, epoch), or in order."""

    def order(_: Any) -> Any:
        index = tf.range(rows)
        if seed is None or epoch is None:
            return index
        return tf.random.experimental.stateless_shuffle(index, seed=tf.stack([tf.constant(seed, tf.int64), epoch]))

    full = rows // batch * batch
    dataset = tf.data.Dataset.range(1).map(order).flat_map(lambda index: _slices(index, full, batch))
    steps = math.ceil(rows / batch)
    return dataset.map(lambda index: {name: index}).apply(tf.data.experimental.assert_cardinality(steps))


def _slices(index: Any, full: int, batch: int) -> tf.data.Dataset:
    slices = tf.data.Dataset.from_tensor_slices(tf.reshape(index[:full], (-1, batch)))
    return slices.concatenate(tf.data.Dataset.from_tensors(index[full:])).filter(lambda part: tf.size(part) > 0)


def _as_list(callbacks: Any) -> Sequence[Any]:
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    return [] if callbacks is None else list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]
