"""The order in which epochs visit rows. It follows from the seed and the epoch alone, so that a run can go on in it."""

import math
from typing import Any

import numpy as np
import tensorflow as tf


def order_of(rows: Any, seed: int | None, epoch: Any) -> Any:
    """Indices (rows,), int32, shuffled; as they come where `seed` is None."""
    index = tf.range(rows)
    return index if seed is None else tf.random.experimental.stateless_shuffle(index, seed=[seed, epoch])


def batches_of(
    arrays: dict[str, np.ndarray], batch: int, seed: int | None, epochs: range
) -> tuple[tf.data.Dataset, int]:
    """Batches of rows by name, epoch after epoch, bare where there is one name; and the steps of an epoch."""
    rows = len(next(iter(arrays.values())))
    held = {name: tf.constant(x) for name, x in arrays.items()}  # a graph can't hold 2 GB, but may read them

    def take(index: Any) -> Any:
        taken = {name: tf.gather(x, index) for name, x in held.items()}
        return taken if len(taken) > 1 else next(iter(taken.values()))

    def of_epoch(epoch: Any) -> tf.data.Dataset:
        order = order_of(rows, seed, tf.cast(epoch, tf.int32))
        return tf.data.Dataset.from_tensor_slices(order).batch(batch).map(take)

    every = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(of_epoch)
    return every.prefetch(tf.data.AUTOTUNE), math.ceil(rows / batch)
