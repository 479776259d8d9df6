"""Rows that are read while `fit` runs: a tf.data pipeline of blocks, each of as many steps as one call of the loop."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

_BLOCK_BYTES = 8 << 20
_AHEAD = 2
"""Blocks that are ready before they are asked for."""


class RowStream(Protocol):
    """Rows by the name of the input that takes them, in blocks, anew each epoch (`keras_ae.data.streams.Stream`)."""

    @property
    def rows(self) -> int:
        """Of an epoch."""
        ...

    def blocks(self, size: int, seed: int | None, epoch: int) -> Iterator[dict[str, np.ndarray]]:
        """All rows, in the order of (seed, epoch), `size` at a time but for the last."""
        ...


def is_stream(x: Any) -> bool:
    """Whether x is a RowStream."""
    return hasattr(x, "blocks") and hasattr(x, "rows")


class Reading:
    """Gives elements to TensorFlow's pipeline, which of what goes wrong in them passes on the text alone."""

    _error: Exception | None = None

    def told(self, elements: Iterator[Any]) -> Iterator[Any]:
        """The same elements; an error of theirs is kept."""
        try:
            yield from elements
        except Exception as error:
            self._error = error
            raise

    @contextmanager
    def raising(self) -> Iterator[None]:
        """In the block that error is raised as it was."""
        try:
            yield
        except Exception as error:
            if self._error is None or self._error is error:
                raise
            raise self._error from error


class Blocks(Reading):
    """What Keras iterates: an element for each call of the loop, with its rows, epoch after epoch.

    Args:
        stream: of rows.
        wanted: shape and dtype of a row by input.
        batch: rows of a step.
        most_steps: of a block.
        seed: of the order.
        epochs: that are to come.
    """

    def __init__(
        self,
        stream: RowStream,
        wanted: dict[str, tuple[tuple[int, ...], str]],
        batch: int,
        most_steps: int,
        seed: int | None,
        epochs: range,
    ) -> None:
        row_bytes = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in wanted.values())
        self.steps_a_block = max(1, min(most_steps, _BLOCK_BYTES // (batch * row_bytes)))
        self.size = batch * self.steps_a_block
        self._stream, self._wanted, self._batch, self._seed, self._epochs = stream, wanted, batch, seed, epochs

    def empty(self) -> dict[str, np.ndarray]:
        """A block of zeros."""
        return {name: np.zeros((self.size, *shape), dtype) for name, (shape, dtype) in self._wanted.items()}

    def dataset(self) -> tf.data.Dataset:
        """Elements `first`, `last` and `batch`, as of spans, and `rows`, always as many: those that are there no more
        are of no step.
        """
        number = tf.TensorSpec((), "int32")
        rows = {name: tf.TensorSpec((self.size, *shape), dtype) for name, (shape, dtype) in self._wanted.items()}
        signature = {"first": number, "last": number, "batch": number, "rows": rows}
        return tf.data.Dataset.from_generator(lambda: self.told(self._elements()), output_signature=signature).prefetch(
            _AHEAD
        )

    def _elements(self) -> Iterator[dict[str, Any]]:
        for epoch in self._epochs:
            first = 0
            for block in self._stream.blocks(self.size, self._seed, epoch):
                count = len(next(iter(block.values())))
                last = first + math.ceil(count / self._batch)
                yield {"first": first, "last": last, "batch": self._batch, "rows": self._filled(block, count)}
                first = last

    def _filled(self, block: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
        if count == self.size:
            return {name: block[name].astype(dtype, copy=False) for name, (_, dtype) in self._wanted.items()}
        filled = self.empty()
        for name, rows in filled.items():
            rows[:count] = block[name]
        return filled
