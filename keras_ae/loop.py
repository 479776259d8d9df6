"""The compiled loop over rows that stay in memory: what it visits, in which order, and the steps of a span."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ae.shuffling import order_of

Arrays = dict[str, Any]
"""Rows by the name of the input that takes them, all of one length."""


class ResidentRows:
    """Rows resident under a name, and the order in which an epoch visits them; variables, so that later rows need no
    new trace. Not a Keras attribute: a saved model holds no data.

    `position` is how many steps of the epoch are done, None where no `fit` goes on; `loop` runs them, each of `batch`
    rows. Of a stream only the block from step `first` on is resident; an epoch has `streamed` rows then. `fed` is as
    `position` where Keras's own pipeline feeds the steps, of which `reached` have come.
    """

    def __init__(self) -> None:
        self.variables: dict[str, dict[str, tf.Variable]] = {}
        self.order: Any = None
        self.position: int | None = None
        self.fed: int | None = None
        self.reached = 0
        self.loop: Any = None
        self.batch_size = 0
        self.first = 0
        self.streamed: int | None = None

    def put(self, name: str, arrays: Arrays) -> Arrays:
        """Puts rows under a name; gives back those that were there, for who must put them back."""
        held = self.variables.get(name)
        if held is None:
            self.variables[name] = {key: _resident(f"{name}_{key}", x) for key, x in arrays.items()}
            return {key: x[:0] for key, x in arrays.items()}
        before = {key: variable.read_value() for key, variable in held.items()}
        for key, variable in held.items():
            variable.assign(arrays[key])
        return before

    def take(self, block: dict[str, Any], first: int) -> None:
        """Puts the rows of a stream's block in the place of those before."""
        self.first = first
        for key, variable in self.variables["train"].items():
            variable.assign(block[key])

    def visit(self, order: Any) -> None:
        """Sets the order in which an epoch visits the rows to train on."""
        if self.order is None:
            self.order = _resident("order", order)
        else:
            self.order.assign(order)

    def release(self) -> None:
        """Gives the memory back; what was traced stays."""
        self.position = self.loop = self.streamed = None
        self.first = 0
        for variable in [v for held in self.variables.values() for v in held.values()]:
            variable.assign(tf.zeros((0, *variable.shape[1:]), variable.dtype))
        self.visit(tf.zeros((0,), tf.int32))

    def count(self, name: str) -> int:
        if name == "train" and self.streamed is not None:
            return self.streamed
        return int(tf.shape(next(iter(self.variables[name].values())))[0])

    def batch(self, name: str, start: Any, size: Any) -> Any:
        index = tf.range(size) + start
        if name == "train":
            index = tf.gather(self.order, index)
        rows = {key: tf.gather(variable, index) for key, variable in self.variables[name].items()}
        return rows if len(rows) > 1 else next(iter(rows.values()))


def _resident(name: str, x: Any) -> tf.Variable:
    return tf.Variable(x, shape=(None, *x.shape[1:]), dtype=x.dtype, trainable=False, name=f"{name}_rows")


def spans_of(rows: int, batch: int, steps_a_call: int) -> tuple[tf.data.Dataset, int]:
    """For Keras to iterate: one element a call of the loop, epoch after epoch; and the steps of an epoch."""
    steps = math.ceil(rows / batch)
    first = np.arange(0, steps, steps_a_call)
    parts = {"first": first, "last": np.minimum(first + steps_a_call, steps), "batch": np.full(len(first), batch)}
    return tf.data.Dataset.from_tensor_slices(
        {key: part.astype("int32") for key, part in parts.items()}
    ).repeat(), steps


class Loop:
    """What Keras calls with its iterator, in place of its own function: runs the steps of the span that comes next.

    Anything but a span goes to Keras's function.
    """

    def __init__(self, model: Any, name: str, step: Callable[[Any], Any], jit_compile: bool) -> None:
        self.rows, self.name, self.step = model._rows, name, step
        self.results: Callable[[], dict[str, Any]] = model.get_metrics_result
        if model.run_eagerly:
            self.whole = self.short = self._run
        else:
            # Traced once for batches of any size. XLA compiles one size; the last batch of an epoch, of fewer rows,
            # runs without: compiling it too would take longer than it saves.
            self.short = tf.function(self._run, jit_compile=False, autograph=False)
            self.whole = tf.function(self._run, jit_compile=True, autograph=False) if jit_compile else self.short
        self.size = (lambda size: size) if jit_compile else tf.constant

    def _run(self, start: Any, steps: Any, size: Any) -> dict[str, Any]:
        def one_step(i: Any) -> tuple[Any]:
            self.step(self.rows.batch(self.name, start + i * size, size))
            return (i + 1,)

        # One after the other: a step reads what the last one wrote.
        tf.while_loop(lambda i: i < steps, one_step, (tf.constant(0),), parallel_iterations=1)
        return self.results()

    def span(self, first: int, last: int, size: int) -> dict[str, Any]:
        """Runs steps `first` to `last`, of `size` rows each but for the last one of an epoch."""
        rows, resident = self.rows.count(self.name), self.rows.first if self.name == "train" else 0
        whole = min(last, rows // size)
        logs: dict[str, Any] = {}
        if whole > first:
            start = tf.constant((first - resident) * size)
            logs = self.whole(start, tf.constant(whole - first), self.size(size))
        if whole < last:
            logs = self.short(tf.constant((whole - resident) * size), tf.constant(1), tf.constant(rows % size))
        return logs

    def prepare(self, size: int) -> None:
        """Traces and compiles what an epoch needs, by loops of no step."""
        none = tf.constant(0)
        self.whole(none, none, self.size(size))
        if self.rows.count(self.name) % size:
            self.short(none, none, none)


class SpanCallback(keras.callbacks.Callback):
    """A callback whose batch hooks are called at the ends of spans of steps, not of each step.

    Attributes:
        most_steps: of a span, or None for as many as `fit` likes.
    """

    most_steps: int | None = None


class Fed(keras.callbacks.Callback):
    """Begins each epoch that Keras's own pipeline feeds at its first step."""

    def __init__(self, rows: ResidentRows) -> None:
        super().__init__()
        self.rows = rows

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.rows.fed = self.rows.reached = 0


class Epochs(keras.callbacks.Callback):
    """Begins each epoch at its first step, in an order that follows from (seed, epoch) alone; None: as rows come."""

    def __init__(self, rows: ResidentRows, seed: int | None) -> None:
        super().__init__()
        self.rows, self.seed = rows, seed

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.rows.position = 0
        self.rows.order.assign(order_of(tf.shape(self.rows.order)[0], self.seed, epoch))
