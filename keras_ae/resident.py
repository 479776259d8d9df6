"""Keras's own `fit`, fed by positions: arrays stay resident and the compiled step gathers its batch from them.

With plain `fit` on arrays a small model spends its time in the input pipeline and in Python between steps. Here the
data set that Keras iterates holds only positions, many steps run in one call (`steps_per_execution`), and the step,
with its gather, is one compiled graph. Callbacks, History, validation and the progress bar are Keras's.
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
VALIDATION_BATCH = 1024
_BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
_CONVOLUTIONS: tuple[type, ...] = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


class _Rows:
    """Rows resident under a name, with the order in which an epoch visits them; variables, so that later rows need no
    new trace. Not a Keras attribute: a saved model holds no data."""

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
        """The batch that a data set's element stands for; anything but our positions is the batch itself."""
        if isinstance(data, dict) and set(data) == {"train_positions"}:
            index = tf.gather(self.variables["order"], data["train_positions"])
            return tf.gather(self.variables["train"], index)
        if isinstance(data, dict) and set(data) == {"validation_positions"}:
            return tf.gather(self.variables["validation"], data["validation_positions"])
        return data

    def positions(self, name: str, batch: int) -> tf.data.Dataset:
        """The positions of each batch of the rows under a name, the last one short: one element a step."""
        rows = int(tf.shape(self.variables[name])[0])

        def of_step(step: Any) -> dict[str, Any]:
            start = tf.cast(step, tf.int32) * batch
            return {f"{name}_positions": tf.range(start, tf.minimum(start + batch, rows))}

        # On one thread: the steps are what needs the cores.
        options = tf.data.Options()
        options.threading.private_threadpool_size = 1
        options.autotune.enabled = False
        return tf.data.Dataset.range(math.ceil(rows / batch)).map(of_step).with_options(options)


class _Shuffle(keras.callbacks.Callback):
    """Sets the order of each epoch, which follows from (seed, epoch) alone."""

    def __init__(self, rows: _Rows, seed: int) -> None:
        super().__init__()
        self.rows, self.seed = rows, seed

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        order = self.rows.variables["order"]
        index = tf.range(tf.shape(order)[0])
        order.assign(tf.random.experimental.stateless_shuffle(index, seed=[self.seed, epoch]))


class ResidentModel(keras.Model):
    """A Keras model whose `fit` on arrays without targets runs on resident rows; anything else runs as in Keras."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rows = _Rows()
        self._traced_steps: int | None = None

    def compile(self, *args: Any, jit_compile: Any = "auto", **kwargs: Any) -> None:
        """Keras's `compile`; `jit_compile="auto"` compiles the step unless the model holds convolutions.

        Most graphs are faster compiled by XLA; convolutions on the CPU are not, and take seconds more to compile
        (benchmarks/results/training.md).
        """
        if jit_compile == "auto":
            jit_compile = not any(isinstance(layer, _CONVOLUTIONS) for layer in self._flatten_layers())
        super().compile(*args, jit_compile=jit_compile, **kwargs)
        self._chosen_steps = self.steps_per_execution

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Restores a saved optimizer; Keras itself does so only where `compile` is its own."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(self, x: Any = None, y: Any = None, batch_size: int | None = None, **kwargs: Any) -> Any:
        """Keras's `fit`. Arrays without targets stay resident, and steps run several to a call unless `compile` was
        given `steps_per_execution` or a callback looks at single batches."""
        if not self.compiled or not self._can_stay(x) or y is not None or self._asks_for_more(kwargs):
            return super().fit(x, y, batch_size=batch_size, **kwargs)
        self._check_rows("x", x)
        batch = min(batch_size or 32, len(x))
        self._rows.put("train", x)
        self._rows.put("order", np.arange(len(x), dtype="int32"))
        if kwargs.pop("shuffle", True):
            seed = int(keras.random.randint((), 0, 2**31 - 1))
            kwargs["callbacks"] = [_Shuffle(self._rows, seed), *_as_list(kwargs.get("callbacks"))]
        self._put_validation(kwargs, batch)
        self.steps_per_execution = self._steps_a_call(kwargs.get("callbacks"), math.ceil(len(x) / batch))
        try:
            # `shuffle=False`: Keras can't shuffle a data set, and would say so.
            return super().fit(self._rows.positions("train", batch), shuffle=False, **kwargs)
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
        return (
            any(value is not None for name, value in kwargs.items() if name not in ours) or tf.distribute.has_strategy()
        )

    def _check_rows(self, name: str, x: np.ndarray) -> None:
        if x.shape[1:] != self.input_shape[1:] or not len(x):
            wanted = ", ".join(str(n) for n in self.input_shape[1:])
            raise ValueError(f"`{name}` must have shape (rows, {wanted}). Received: {x.shape}.")

    def _put_validation(self, kwargs: dict[str, Any], batch: int) -> None:
        data = kwargs.get("validation_data")
        if isinstance(data, list | tuple) and len(data) == 1:
            data = data[0]
        if not isinstance(data, np.ndarray) or not self._can_stay(data):
            return
        self._check_rows("validation_data", data)
        self._rows.put("validation", data)
        size = kwargs.pop("validation_batch_size", None) or max(batch, VALIDATION_BATCH)
        kwargs["validation_data"] = self._rows.positions("validation", size)

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


def _as_list(callbacks: Any) -> Sequence[Any]:
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    return [] if callbacks is None else list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]
