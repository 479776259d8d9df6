"""What z is drawn from after training: a function of standard normal noise, so that samples follow from their seed."""

from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_ae")
class GaussianPrior(keras.layers.Layer):
    """z = mean + factor @ epsilon, with epsilon ~ N(0, I): a Gaussian with full covariance.

    Called on epsilon (batch, n); returns z (batch, n). It is N(0, I), the prior that a VAE is trained to, until `fit`.
    """

    def build(self, input_shape: Any) -> None:
        n = input_shape[-1]
        self.mean = self.add_weight(shape=(n,), initializer="zeros", dtype="float32", trainable=False, name="mean")
        self.factor = self.add_weight(
            shape=(n, n), initializer=keras.initializers.Identity(), dtype="float32", trainable=False, name="factor"
        )

    def fit(self, z: np.ndarray) -> None:
        """Fits mean and covariance to the latents z (rows, n) of the training rows."""
        z = z.reshape(len(z), -1).astype("float64")
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(z, rowvar=False)))
        self.mean.assign(z.mean(axis=0))
        # The symmetric root exists where the covariance is singular (a dead latent), and a Cholesky factor does not.
        self.factor.assign(vectors @ np.diag(np.sqrt(np.maximum(values, 0.0))) @ vectors.T)

    def call(self, epsilon: Any) -> Any:
        return ops.matmul(ops.cast(epsilon, "float32"), ops.transpose(self.factor)) + self.mean

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
