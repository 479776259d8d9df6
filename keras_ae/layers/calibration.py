"""From a score to a conformal p-value, and from logits to probabilities that mean what they say."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.layers.float32 import Float32Layer

CAPACITY = 2000
"""Calibration scores kept, at most: p-values have steps of 1/2001, and scoring one row stays a few microseconds."""
_BLOCK = 50
"""A sorted list of 2,000 is searched in two steps: which of 40 blocks of 50, then where in it."""
_BLOCKS = CAPACITY // _BLOCK
_SPREAD = 0.5
"""Standard deviation of a weight around its equal part, before any row is seen."""
_LEAST = -1e4
"""Nats: an opinion that says less says never."""


@keras.saving.register_keras_serializable(package="keras_ae")
class ConformalPValue(Float32Layer):
    """p = (1 + number of calibration scores at least as high) / (1 + number of calibration scores).

    Called on scores (batch,); returns p-values (batch,) in (0, 1]. For rows drawn like the calibration rows, and not
    used in training, P(p <= alpha) <= alpha whatever the model (Vovk, Gammerman and Shafer 2005, proposition 2.8;
    Bates et al. 2023, "Testing for outliers with conformal p-values", equation 3).
    """

    def build(self, input_shape: Any) -> None:
        self.scores = self.add_weight(
            shape=(CAPACITY,),
            initializer=keras.initializers.Constant(-np.inf),
            dtype="float32",
            trainable=False,
            name="scores",
        )

    def fit(self, scores: np.ndarray) -> None:
        """Keeps the scores (rows,) of calibration rows, the first 2,000 of them."""
        scores = np.sort(scores[:CAPACITY]).astype("float32")
        if not len(scores) or not np.all(np.isfinite(scores)):
            raise ValueError(f"Calibration needs finite scores of one row or more. Received: {len(scores)} scores.")
        self.scores.assign(np.concatenate([np.full(CAPACITY - len(scores), -np.inf, "float32"), scores]))

    @property
    def calibration_scores(self) -> np.ndarray:
        """The scores kept, sorted; empty before `fit`."""
        scores = ops.convert_to_numpy(self.scores)
        return scores[np.isfinite(scores)]

    @staticmethod
    def constants(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What stands in an exported graph for sorted scores (2,000,): themselves, and the last of each block."""
        return scores, scores[_BLOCK - 1 :: _BLOCK]

    def call(self, score: Any) -> Any:
        # Places that are not taken hold -inf: below every score, and not counted.
        score = ops.expand_dims(score, -1)
        blocks = ops.reshape(self.scores, (-1, _BLOCK))
        below = ops.sum(ops.cast(blocks[:, -1] < score, "int32"), axis=-1)
        block = ops.minimum(below, _BLOCKS - 1)
        inside = ops.sum(ops.cast(ops.take(blocks, block, axis=0) >= score, "int32"), axis=-1)
        above = ops.cast(inside + _BLOCK * (_BLOCKS - 1 - block), "float32")
        return (1.0 + above) / (1.0 + ops.sum(ops.cast(self.scores > -np.inf, "float32")))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


@keras.saving.register_keras_serializable(package="keras_ae")
class LogarithmicPool(Float32Layer):
    """Opinions about the class of x, each a distribution, as one: p(y | x) = softmax of sum_i w_i log p_i(y | x), the
    logarithmic opinion pool (Genest and Zidek 1986, "Combining probability distributions", equation 3.9).

    Called on a list of `opinions` logits (batch, classes); returns logits. A single opinion's weight is the inverse of
    a temperature (Guo et al. 2017, "On calibration of modern neural networks", section 4.2).

    Args:
        opinions: how many there are.
    """

    def __init__(self, opinions: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.opinions = int(opinions)

    def build(self, input_shape: Any = None) -> None:
        self.shares = self.add_weight(
            shape=(self.opinions,),
            initializer=keras.initializers.Constant(1.0 / self.opinions),
            dtype="float32",
            trainable=False,
            name="shares",
        )

    def fit(self, opinions: list[np.ndarray], y: np.ndarray) -> None:
        """Sets the weights, none of them negative, that labels y (rows,), indices, of rows that were not trained on
        make most probable, where before each is normal around an equal part of one: the problem is convex. Few rows
        tell little of weights, and those of opinions that were right about all of them would have no limit.

        Args:
            opinions: logits (rows, classes) of each.
            y: indices of classes.
        """
        from scipy.optimize import minimize
        from scipy.special import log_softmax

        log_p = np.stack([log_softmax(logits.astype("float64"), axis=1) for logits in opinions]).clip(min=_LEAST)
        rows, equal = np.arange(len(y)), np.full(len(log_p), 1.0 / len(log_p))

        def loss(shares: np.ndarray) -> tuple[float, np.ndarray]:
            pooled, off = log_softmax(np.tensordot(shares, log_p, 1), axis=1), (shares - equal) / _SPREAD
            wrong = np.exp(pooled)
            wrong[rows, y] -= 1.0
            nats = 0.5 * np.sum(np.square(off)) - pooled[rows, y].sum()
            return float(nats) / len(y), (np.einsum("irc,rc->i", log_p, wrong) + off / _SPREAD) / len(y)

        found = minimize(loss, equal, jac=True, bounds=[(0.0, None)] * len(log_p), method="L-BFGS-B")
        self.shares.assign(found.x if found.x.sum() > 0 else equal)

    def call(self, opinions: Any) -> Any:
        logs = [ops.log_softmax(ops.cast(logits, "float32"), axis=-1) for logits in opinions]
        return sum(self.shares[i] * log_p for i, log_p in enumerate(logs))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "opinions": self.opinions}
