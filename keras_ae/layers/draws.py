"""Noise for layers: the same numbers from one seed whether a step is compiled by XLA or not.

Keras and TensorFlow turn random bits into floats in other ways in the two cases, and what Keras asks for by default
costs a compiled step on the CPU several times as much (benchmarks/results/training.md). The bits of the Philox
generator are the same everywhere (Salmon et al. 2011), so the floats are made of those here.
"""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_ae.replicas import seed_of_replica


def uniform(shape: Any, seed_generator: keras.random.SeedGenerator) -> Any:
    """float32 of `shape`, uniform in the open interval (0, 1), in steps of 2^-23."""
    return uniform_of_seed(shape, seed_generator.next())


def uniform_of_seed(shape: Any, seed: Any) -> Any:
    """The same from a seed (2,): the same numbers at each call."""
    seed = seed_of_replica(tf.cast(seed, tf.int32))
    bits = tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox")
    # 23 bits and a half: the most that float32 holds without rounding up to 1, where the normal is infinite.
    bits = tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32))
    return (tf.cast(bits, tf.float32) + 0.5) * np.float32(2.0**-23)


def normal(shape: Any, seed_generator: keras.random.SeedGenerator) -> Any:
    """float32 of `shape`, standard normal by the inverse of its distribution function; none beyond 5.3."""
    return np.float32(math.sqrt(2.0)) * tf.math.erfinv(2.0 * uniform(shape, seed_generator) - 1.0)


def normal_cdf(noise: Any) -> Any:
    """The distribution function of the standard normal: of its draws shares that are uniform."""
    return 0.5 * (1.0 + ops.erf(noise * np.float32(math.sqrt(0.5))))
