"""From a score to a conformal p-value, and from logits to probabilities that mean what they say."""

from typing import Any

import keras
import numpy as np
from keras import ops

CAPACITY = 2000
"""Calibration scores kept, at most: p-values have steps of 1/2001, and scoring one row stays a few microseconds."""
_BLOCK = 50
"""A sorted list of 2,000 is searched in two steps: which of 40 blocks of 50, then where in it."""
_BLOCKS = CAPACITY // _BLOCK


@keras.saving.register_keras_serializable(package="keras_ae")
class ConformalPValue(keras.layers.Layer):
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
class Temperature(keras.layers.Layer):
    """Divides logits (batch, classes) by one number, so that their softmax is calibrated (Guo et al. 2017, "On
    calibration of modern neural networks", section 4.2). Which class is the likeliest does not change.
    """

    def build(self, input_shape: Any) -> None:
        self.temperature = self.add_weight(
            shape=(), initializer="ones", dtype="float32", trainable=False, name="temperature"
        )

    def reset(self) -> None:
        """Back to logits as they are."""
        self.temperature.assign(1.0)

    def fit(self, logits: np.ndarray, y: np.ndarray) -> None:
        """Sets the temperature that gives labels y (rows,), indices, of rows that were not trained on, the highest
        likelihood; between 1/100 and 100."""
        from scipy.optimize import minimize_scalar
        from scipy.special import log_softmax

        def loss(log_temperature: float) -> float:
            scaled = log_softmax(logits.astype("float64") / np.exp(log_temperature), axis=1)
            return -float(np.mean(scaled[np.arange(len(y)), y]))

        most = float(np.log(100.0))
        self.temperature.assign(np.exp(minimize_scalar(loss, bounds=(-most, most), method="bounded").x))

    def call(self, logits: Any) -> Any:
        return logits / self.temperature

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
