"""A stream under a strategy of several replicas: each process reads the rows of its own and no others."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ae.data.lanes import shares, steps_of
from keras_ae.data.streams import Stream
from keras_ae.streaming import Reading

_AHEAD = 8
"""Batches that are ready before they are asked for."""


class Shares(Reading):
    """What Keras iterates under the current strategy: for each step the rows of each replica, epoch after epoch.

    Args:
        stream: of rows.
        wanted: shape and dtype of a row by input.
        batch: rows of a step, of all replicas together.
        seed: of the order.
        epochs: that are to come.

    Attributes:
        steps: of an epoch.

    Raises:
        ValueError: for a batch with fewer rows than replicas.
    """

    def __init__(
        self,
        stream: Stream,
        wanted: dict[str, tuple[tuple[int, ...], str]],
        batch: int,
        seed: int | None,
        epochs: range,
    ) -> None:
        self._strategy = tf.distribute.get_strategy()
        self._replicas = self._strategy.num_replicas_in_sync
        if batch < self._replicas:
            raise ValueError(f"`batch_size` must be at least that of replicas, {self._replicas}. Received: {batch}.")
        self.steps = steps_of(stream.rows, batch, self._replicas)
        self._stream, self._wanted, self._batch, self._seed, self._epochs = stream, wanted, batch, seed, epochs

    def dataset(self) -> Any:
        """Of the strategy, distributed."""
        return self._strategy.distribute_datasets_from_function(self._of_process)

    def _of_process(self, context: Any) -> tf.data.Dataset:
        mine = self._replicas // context.num_input_pipelines
        replicas = range(context.input_pipeline_id * mine, (context.input_pipeline_id + 1) * mine)
        rows = {name: tf.TensorSpec((None, *shape), dtype) for name, (shape, dtype) in self._wanted.items()}
        found = tf.data.Dataset.from_generator(
            lambda: self.told(self._elements(replicas)), output_signature=rows if len(rows) > 1 else rows.popitem()[1]
        )
        return found.prefetch(_AHEAD)

    def _elements(self, replicas: range) -> Iterator[Any]:
        for epoch in self._epochs:
            for parts in shares(self._stream, self._batch, replicas, self._replicas, self._seed, epoch):
                for part in parts:
                    rows = {name: np.asarray(part[name], dtype) for name, (_, dtype) in self._wanted.items()}
                    yield rows if len(rows) > 1 else rows.popitem()[1]
