"""Keras's own `fit` over resident rows: all steps of a span of batches run in one compiled loop.

With plain `fit` on arrays a small model spends its time in the input pipeline, in Python and in launching steps. Here
the data set that Keras iterates holds only spans of batches; the loop over a span, each step's gather of its rows and
the step itself are one graph. Callbacks, History, validation and the progress bar are Keras's, and so is `train_step`:
a model that overrides it, with several optimizers for instance, trains in the same loop.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ae.loop import Arrays, Epochs, Fed, Loop, ResidentRows, SpanCallback, spans_of
from keras_ae.replicas import scalars_of_workers
from keras_ae.sharing import Shares
from keras_ae.shuffling import batches_of
from keras_ae.streaming import Blocks, is_stream

_MOST_BYTES = 4 << 30
_STEPS_COMPILED = 256
_STEPS_PLAIN = 32
_BATCH = 32  # the default of Keras
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


class ResidentModel(keras.Model):
    """A Keras model whose `fit` on arrays without targets runs on resident rows; anything else runs as in Keras.

    Attributes:
        seconds_to_first_step: of the last `fit` on resident rows, tracing and compiling included.
    """

    train_function: Any
    test_function: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rows = ResidentRows()
        self._started: float | None = None
        self.seconds_to_first_step: float | None = None

    def compile(self, *args: Any, jit_compile: Any = "auto", **kwargs: Any) -> None:
        """Keras's `compile`; `jit_compile="auto"` compiles the step unless the model holds convolutions.

        Most graphs are faster compiled by XLA; convolutions on the CPU are many times slower, and take seconds more
        to compile (benchmarks/results/training.md); and it compiles no step that spans several devices.
        """
        if jit_compile == "auto":
            convolutions = any(isinstance(layer, _CONVOLUTIONS) for layer in self._flatten_layers())
            jit_compile = not convolutions and not _is_distributed()
        super().compile(*args, jit_compile=jit_compile, **kwargs)
        self._chosen_steps = self.steps_per_execution

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """What is built needs no batch for it: Keras would take the mean of one over workers, and fails for inputs by
        name.
        """
        if self._distribute_strategy is None or self._compile_loss is not None or self._compile_metrics is not None:
            super()._maybe_symbolic_build(iterator, data_batch)
            return
        with self.distribute_strategy.scope():
            self._symbolic_build()

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Restores a saved optimizer; Keras itself does so only where `compile` is its own."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(self, x: Any = None, y: Any = None, batch_size: int | None = None, **kwargs: Any) -> Any:
        """Keras's `fit`. Arrays without targets stay resident while it runs, and steps run many to a call unless
        `compile` was given `steps_per_execution` or a callback looks at single batches. Too many of them, and those
        that a strategy distributes, go through Keras's input pipeline, in the same order. A stream of rows
        (`keras_ae.data.streams.Stream`) is resident block by block, or under a strategy read by each worker for
        itself."""
        if is_stream(x):
            return self._fit_stream(x, y, batch_size or _BATCH, **kwargs)
        if not self.compiled or not self._are_arrays(x) or y is not None or self._asks_for_more(kwargs):
            with scalars_of_workers():
                return super().fit(x, y, batch_size=batch_size, **kwargs)
        arrays = self._as_inputs("x", x)
        rows = _length(arrays)
        batch = min(batch_size or _BATCH, rows)
        seed = int(keras.random.randint((), 0, 2**31 - 1)) if kwargs.pop("shuffle", True) else None
        if not self._can_stay(x) or _is_distributed():
            epochs = range(kwargs.get("initial_epoch", 0), kwargs.get("epochs", 1))
            batches, steps = batches_of(arrays, batch, seed, epochs)
            return self._fit_fed(batches, steps, batch, **kwargs)
        self._started = time.perf_counter()
        self._rows.batch_size = batch
        self._rows.put("train", arrays)
        self._rows.visit(np.arange(rows, dtype="int32"))
        kwargs["callbacks"] = [Epochs(self._rows, seed), *_as_list(kwargs.get("callbacks"))]
        a_call = self._steps_a_call(kwargs.get("callbacks"), kwargs.get("validation_data"))
        self._put_validation(kwargs, batch, a_call)
        spans, steps = spans_of(rows, batch, a_call)
        return self._fit_spans(spans, steps, a_call, **kwargs)

    def _fit_stream(self, stream: Any, y: Any, batch_size: int, **kwargs: Any) -> Any:
        if y is not None or not self.compiled or self._asks_for_more(kwargs):
            raise ValueError("A stream must train a compiled model, without targets or other arguments.")
        batch = min(batch_size, stream.rows)
        seed = int(keras.random.randint((), 0, 2**31 - 1)) if kwargs.pop("shuffle", True) else None
        self._started = time.perf_counter()
        wanted = {tensor.name: (tuple(tensor.shape[1:]), tensor.dtype) for tensor in self.inputs}
        epochs = range(kwargs.get("initial_epoch", 0), kwargs.get("epochs", 1))
        if _is_distributed():
            shares = Shares(stream, wanted, batch, seed, epochs)
            with shares.raising():
                return self._fit_fed(shares.dataset(), shares.steps, batch, **kwargs)
        a_call = self._steps_a_call(kwargs.get("callbacks"), kwargs.get("validation_data"))
        blocks = Blocks(stream, wanted, batch, a_call, seed, epochs)
        a_call = blocks.steps_a_block
        self._rows.batch_size = batch
        self._rows.put("train", blocks.empty())
        self._rows.visit(np.arange(blocks.size, dtype="int32"))
        self._rows.streamed = stream.rows
        kwargs["callbacks"] = [Epochs(self._rows, None), *_as_list(kwargs.get("callbacks"))]
        self._put_validation(kwargs, batch, a_call)
        steps = math.ceil(stream.rows / batch)
        with blocks.raising():
            return self._fit_spans(blocks.dataset(), steps, a_call, **kwargs)

    def _fit_spans(self, spans: tf.data.Dataset, steps: int, a_call: int, **kwargs: Any) -> Any:
        if self.optimizer is not None and not self.optimizer.built:
            # A graph that makes variables is traced again without.
            self.optimizer.build(self.trainable_variables)
        self.steps_per_execution = a_call
        try:
            # `shuffle=False`: Keras can't shuffle a data set, and would say so.
            return super().fit(spans, shuffle=False, steps_per_epoch=steps, **kwargs)
        finally:
            self.steps_per_execution = self._chosen_steps
            self._rows.release()

    def evaluate(self, x: Any = None, y: Any = None, batch_size: int | None = None, **kwargs: Any) -> Any:
        """Keras's `evaluate`; arrays without targets run through the same loop as the validation of `fit`."""
        ours = {"verbose", "callbacks", "return_dict"}
        if not self.compiled or not self._can_stay(x) or y is not None or set(kwargs) - ours or _is_distributed():
            with scalars_of_workers():
                return super().evaluate(x, y, batch_size=batch_size, **kwargs)
        arrays = self._as_inputs("x", x)
        rows = _length(arrays)
        spans, steps = spans_of(rows, min(batch_size or _BATCH, rows), self.steps_per_execution)
        before = self._rows.put("validation", arrays)  # of a `fit` that goes on, where a callback evaluates
        try:
            return super().evaluate(spans, steps=steps, **kwargs)
        finally:
            self._rows.put("validation", before)

    @property
    def position(self) -> int | None:
        """Steps of the epoch that are done; None where no `fit` on resident rows goes on.

        A callback sets it at the beginning of an epoch, to go on in the middle of it.
        """
        return self._rows.position

    @position.setter
    def position(self, steps: int) -> None:
        self._rows.position = steps

    @property
    def steps_done(self) -> int | None:
        """As `position`, and in Keras's own pipeline too; there None where a call runs many steps."""
        return self._rows.fed if self._rows.position is None else self._rows.position

    @steps_done.setter
    def steps_done(self, steps: int) -> None:
        if self._rows.position is None:
            self._rows.fed = steps
        else:
            self._rows.position = steps

    @property
    def streams(self) -> bool:
        """Whether a `fit` on a stream goes on: steps before the last span can't run again."""
        return self._rows.streamed is not None

    def run_steps(self, first: int, last: int) -> dict[str, Any]:
        """Runs steps `first` to `last` of the epoch that goes on, once more; gives the means of its terms."""
        return self._rows.loop.span(first, last, self._rows.batch_size)

    def rows_of(self, step: int) -> tuple[np.ndarray, Arrays]:
        """Which training rows a step of the epoch that goes on has, by index; and the rows."""
        start = (step - self._rows.first) * self._rows.batch_size
        index = self._rows.order[start : start + self._rows.batch_size].numpy()
        rows = self._rows.variables["train"].items()
        return index, {key: tf.gather(variable, index).numpy() for key, variable in rows}

    def make_train_function(self, force: bool = False) -> Any:
        """Keras calls this at the start of `fit`."""
        if self.train_function is None or force:
            super().make_train_function(force=True)
            self.train_function = self._looping("train", self.train_step, self.train_function, self.jit_compile)

    def make_test_function(self, force: bool = False) -> Any:
        """Keras calls this at the start of `evaluate`."""
        if self.test_function is None or force:
            super().make_test_function(force=True)
            # A few large batches forward gain less from XLA than compiling them takes.
            self.test_function = self._looping("validation", self.test_step, self.test_function, jit_compile=False)

    def _looping(self, name: str, step: Callable[[Any], Any], otherwise: Any, jit_compile: bool) -> Any:
        loop = Loop(self, name, step, jit_compile)

        def function(iterator: Any) -> Any:
            spec = getattr(iterator, "element_spec", None)
            if not isinstance(spec, dict) or set(spec) - {"rows"} != {"first", "last", "batch"}:
                return self._fed(iterator, otherwise) if name == "train" else otherwise(iterator)
            rows = self._rows
            if name == "train" and self._started is not None:
                # Before a stream fills its buffers: what compiling takes is free again then.
                loop.prepare(rows.batch_size)
            element = next(iterator)
            block = element.pop("rows", None)
            span = {key: int(value) for key, value in element.items()}
            if name != "train":
                return loop.span(span["first"], span["last"], span["batch"])
            rows.loop = loop
            if block is not None:
                rows.take(block, span["first"])
            if self._started is not None:
                self.seconds_to_first_step, self._started = time.perf_counter() - self._started, None
            first = max(span["first"], rows.position or 0)  # a checkpoint may have the steps before
            if first >= span["last"]:
                return loop.results()
            rows.position = span["last"]
            return loop.span(first, span["last"], span["batch"])

        return function

    def _fed(self, iterator: Any, function: Callable[[Any], Any]) -> Any:
        """A step of Keras's pipeline; one that a checkpoint has is read, and not run again."""
        rows = self._rows
        if rows.fed is None:
            return function(iterator)
        rows.reached += 1
        if rows.reached <= rows.fed:
            next(iterator)
            return self.get_metrics_result()
        logs = function(iterator)
        rows.fed = rows.reached
        return logs

    @staticmethod
    def _are_arrays(x: Any) -> bool:
        return all(isinstance(part, np.ndarray) and part.dtype.kind in "biuf" for part in _parts(x))

    def _can_stay(self, x: Any) -> bool:
        return self._are_arrays(x) and sum(part.nbytes for part in _parts(x)) <= _MOST_BYTES

    @staticmethod
    def _asks_for_more(kwargs: dict[str, Any]) -> bool:
        ours = {"epochs", "verbose", "callbacks", "validation_data", "validation_freq", "validation_batch_size"}
        ours |= {"shuffle", "initial_epoch"}
        return any(value is not None for name, value in kwargs.items() if name not in ours)

    def _as_inputs(self, name: str, x: Any) -> Arrays:
        """Rows for each input, cast as Keras would, and always the same for what is traced."""
        wanted = {tensor.name: tensor for tensor in self.inputs}
        arrays = x if isinstance(x, dict) else {next(iter(wanted)): x}
        if set(arrays) != set(wanted):
            raise ValueError(f"`{name}` must have rows for the inputs {sorted(wanted)}. Received: {sorted(arrays)}.")
        for key, part in arrays.items():
            shape = tuple(wanted[key].shape[1:])
            if part.shape[1:] != shape or not len(part):
                what = name if len(wanted) == 1 else f"{name}[{key!r}]"
                inside = ", ".join(["rows", *map(str, shape)])
                raise ValueError(f"`{what}` must have shape ({inside}). Received: {part.shape}.")
        if len({len(part) for part in arrays.values()}) > 1:
            sizes = {key: len(part) for key, part in arrays.items()}
            raise ValueError(f"`{name}` must have as many rows for each input. Received: {sizes}.")
        return {key: part.astype(wanted[key].dtype, copy=False) for key, part in arrays.items()}

    def _fit_fed(self, batches: Any, steps: int, batch: int, **kwargs: Any) -> Any:
        """Through Keras's input pipeline."""
        if self._are_arrays(_alone(kwargs.get("validation_data"))):
            kwargs["validation_batch_size"] = kwargs.get("validation_batch_size") or max(batch, VALIDATION_BATCH)
        if self.steps_per_execution == 1:
            kwargs["callbacks"] = [Fed(self._rows), *_as_list(kwargs.get("callbacks"))]
        try:
            with scalars_of_workers():
                return super().fit(batches, shuffle=False, steps_per_epoch=steps, **kwargs)
        finally:
            self._rows.fed = None

    def _put_validation(self, kwargs: dict[str, Any], batch: int, steps_a_call: int) -> None:
        data = _alone(kwargs.get("validation_data"))
        if not self._can_stay(data):
            return
        arrays = self._as_inputs("validation_data", data)
        rows = _length(arrays)
        self._rows.put("validation", arrays)
        size = min(rows, kwargs.pop("validation_batch_size", None) or max(batch, VALIDATION_BATCH))
        kwargs["validation_data"], kwargs["validation_steps"] = spans_of(rows, size, steps_a_call)

    def _steps_a_call(self, callbacks: Any, validation: Any) -> int:
        looks_at_batches = any(
            getattr(type(callback), hook) is not getattr(keras.callbacks.Callback, hook)
            for callback in _as_list(callbacks)
            for hook in _BATCH_HOOKS
            if isinstance(callback, keras.callbacks.Callback) and not isinstance(callback, SpanCallback)
        )
        # Keras's own function, which would run other validation, has its number of steps traced in.
        by_keras = validation is not None and not self._can_stay(_alone(validation))
        if self._chosen_steps != 1 or looks_at_batches or by_keras or self.run_eagerly:
            return int(self._chosen_steps)
        steps = _STEPS_COMPILED if self.jit_compile else _STEPS_PLAIN
        for callback in _as_list(callbacks):
            if isinstance(callback, SpanCallback) and callback.most_steps is not None:
                # Spans of one length, so that what is due after so many steps is due at the end of one.
                steps = min(steps, math.ceil(callback.most_steps / math.ceil(callback.most_steps / steps)))
        return steps


def _is_distributed() -> bool:
    return bool(tf.distribute.has_strategy())


def _parts(x: Any) -> list[Any]:
    return list(x.values()) if isinstance(x, dict) else [x]


def _length(arrays: Arrays) -> int:
    return len(next(iter(arrays.values())))


def _alone(data: Any) -> Any:
    return data[0] if isinstance(data, list | tuple) and len(data) == 1 else data


def _as_list(callbacks: Any) -> Sequence[Any]:
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    return [] if callbacks is None else list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]
