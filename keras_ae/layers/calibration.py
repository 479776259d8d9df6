"""From a score to a conformal p-value."""

from typing import Any

import keras
import numpy as np
from keras import ops

CAPACITY = 2000
"""Calibration scores kept, at most: p-values have steps of 1/2001, and scoring one row stays a few microseconds."""


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

    def call(self, score: Any) -> Any:
        # Places that are not taken hold -inf: below every score, and not counted.
        above = ops.sum(ops.cast(self.scores[None, :] >= ops.expand_dims(score, -1), "float32"), axis=-1)
        return (1.0 + above) / (1.0 + ops.sum(ops.cast(self.scores > -np.inf, "float32")))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
