"""Between raw units and the network's: part of every exported graph, so that raw data goes in and comes out."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.layers.draws import uniform


class _SameShape(keras.layers.Layer):
    """From x (batch, ...), of any dtype and under any policy, to float32 of that shape."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)

    def compute_output_spec(self, x: Any, **options: Any) -> Any:
        return keras.KerasTensor(x.shape, dtype="float32")


@keras.saving.register_keras_serializable(package="keras_ae")
class Scaling(_SameShape):
    """`(x - shift) / scale` per feature, and with `inverse=True` its inverse `x * scale + shift`; float32 in any
    policy.

    Called on raw x of shape (batch, ...), any real dtype. Statistics are non-trainable weights, set by `set_statistics`
    (see `keras_ae.data.fit_scaling`); until then it is the identity. `like`, the raw rows that x_hat reconstructs, is
    not needed here.
    """

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape[1:])
        self.shift = self.add_weight(shape=shape, initializer="zeros", dtype="float32", trainable=False, name="shift")
        self.scale = self.add_weight(shape=shape, initializer="ones", dtype="float32", trainable=False, name="scale")

    def set_statistics(self, shift: np.ndarray, scale: np.ndarray) -> None:
        """Sets shift and scale, each of the shape of one observation; every scale must be positive."""
        if not np.all(scale > 0):
            raise ValueError(f"`scale` must be positive for every feature. Received a minimum of {np.min(scale)}.")
        self.shift.assign(shift)
        self.scale.assign(scale)

    def call(self, x: Any, inverse: bool = False, like: Any = None) -> Any:
        x = ops.cast(x, "float32")
        return x * self.scale + self.shift if inverse else (x - self.shift) / self.scale


@keras.saving.register_keras_serializable(package="keras_ae")
class UnitInterval(_SameShape):
    """Grey values from 0 to `limit` as numbers from 0 to 1: `x / limit`, clipped.

    Called on raw x of shape (batch, ...); with `inverse=True` a number is a grey value again. `limit` is a
    non-trainable weight, 1 until `set_limit`.
    """

    non_negative = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.limit = self.add_weight(shape=(), initializer="ones", dtype="float32", trainable=False, name="limit")

    def set_limit(self, limit: float) -> None:
        """Sets the value of white."""
        if not limit > 0:
            raise ValueError(f"`limit` must be positive. Received: {limit}.")
        self.limit.assign(limit)

    def share(self, x: Any) -> Any:
        """Raw x as a share of white, from 0 to 1."""
        return ops.clip(ops.cast(x, "float32") / self.limit, 0.0, 1.0)

    def call(self, x: Any, inverse: bool = False, like: Any = None, training: bool = False) -> Any:
        return ops.cast(x, "float32") * self.limit if inverse else self.share(x)


@keras.saving.register_keras_serializable(package="keras_ae")
class Binarize(UnitInterval):
    """Grey values from 0 to `limit` as black and white, so that they have a likelihood (BernoulliLoss).

    Called on raw x of shape (batch, ...): in training a feature is 1 with probability x / limit, drawn anew each time
    (Salakhutdinov and Murray 2008, "On the quantitative analysis of deep belief networks", section 5); at inference
    where that is at least a half. With `inverse=True` a probability is a grey value again.

    Args:
        seed: of the draws; None takes one from `keras.utils.set_random_seed`.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x: Any, inverse: bool = False, like: Any = None, training: bool = False) -> Any:
        share = super().call(x, inverse)
        if inverse:
            return share
        level = uniform(ops.shape(share), self.seed_generator) if training else 0.5
        return ops.cast(share >= level, "float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_ae")
class Counts(_SameShape):
    """Whole numbers from 0 on, as they are: their likelihood is in their own units (NegativeBinomialLoss)."""

    non_negative = True

    def call(self, x: Any, inverse: bool = False, like: Any = None) -> Any:
        return ops.cast(x, "float32")


@keras.saving.register_keras_serializable(package="keras_ae")
class LogCounts(_SameShape):
    """log(1 + x) of counts: what an encoder takes, of sizes that a network can start from."""

    def call(self, x: Any) -> Any:
        return ops.log1p(ops.maximum(ops.cast(x, "float32"), 0.0))


@keras.saving.register_keras_serializable(package="keras_ae")
class Proportions(_SameShape):
    """Non-negative weights (counts, a histogram, a spectrum) as a distribution over the features.

    Called on raw x of shape (batch, ...): `x / sum(x)`. With `inverse=True` a distribution is given the total of the
    raw rows in `like`, or without them the one that rows of its entropy H have, `exp(level + slope H)`: 1 until
    `set_totals`. A row without any weight stays 0.
    """

    non_negative = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.level, self.slope = (
            self.add_weight(shape=(), initializer="zeros", dtype="float32", trainable=False, name=name)
            for name in ("level", "slope")
        )

    def set_totals(self, p: np.ndarray, x: np.ndarray) -> None:
        """Sets level and slope by least squares on the logarithms of totals.

        Args:
            p: distributions (rows, ...), as a model reconstructs them: smoother than rows are, and of more entropy.
            x: raw rows that they stand for.
        """
        total, entropy = (np.asarray(of, "float64").ravel() for of in (_total(x), _entropy(p)))
        some = total > 0
        if not some.any():
            return
        total, entropy = np.log(total[some]), entropy[some]
        apart = entropy - entropy.mean()
        slope = float(apart @ total) / max(float(apart @ apart), 1e-12)
        self.level.assign(total.mean() - slope * entropy.mean())
        self.slope.assign(slope)

    def call(self, x: Any, inverse: bool = False, like: Any = None) -> Any:
        x = ops.cast(x, "float32")
        if inverse:
            return x * (ops.exp(self.level + self.slope * _entropy(x)) if like is None else _total(like))
        return x / ops.maximum(_total(x), 1e-30)


def _entropy(p: Any) -> Any:
    """Of distributions (batch, ...), nats; with axes of length 1."""
    return ops.sum(-p * ops.log(ops.maximum(p, 1e-30)), axis=tuple(range(1, len(p.shape))), keepdims=True)


def _total(x: Any) -> Any:
    return ops.sum(ops.cast(x, "float32"), axis=tuple(range(1, len(x.shape))), keepdims=True)
