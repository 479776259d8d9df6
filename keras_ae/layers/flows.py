"""An autoregressive flow: a map of z with a Jacobian that is known."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.layers.perceptron import Perceptron

HIDDEN = 64


@keras.saving.register_keras_serializable(package="keras_ae")
class AutoregressiveFlow(keras.layers.Layer):
    """u = f(z) by steps u_i = (z_i - m_i) exp(-s_i), with m_i and s_i of z_1 ... z_(i-1) by a masked perceptron
    (Germain et al. 2015, "MADE"), in every other step of z_(i+1) ... z_n instead. It starts as the identity.

    Of noise it is the inverse autoregressive flow of Kingma et al. 2016, all numbers at once; of data the masked one of
    Papamakarios et al. 2017. Called on z (batch, n); returns u (batch, n).

    Args:
        steps: of the chain.
        hidden: width of the hidden layer of each.
    """

    def __init__(self, steps: int = 4, hidden: int = HIDDEN, **kwargs: Any) -> None:
        if min(steps, hidden) < 1:
            raise ValueError(f"`steps` and `hidden` must be at least 1. Received: {steps} and {hidden}.")
        super().__init__(autocast=False, **kwargs)
        self.steps, self.hidden = int(steps), int(hidden)

    def build(self, z_shape: Any) -> None:
        n = int(z_shape[-1])
        degrees, hidden = np.arange(n), np.arange(self.hidden) % max(n - 1, 1)
        self.maps = []
        for i in range(self.steps):
            masks = [
                (degrees[:, None] <= hidden[None]).astype("float32"),
                np.tile(hidden[:, None] < degrees[None], 2).astype("float32"),
            ]
            self.maps.append(Perceptron(self, f"flow_{i}", (n, self.hidden, 2 * n), masks))
            degrees = degrees[::-1]

    def call(self, z: Any) -> Any:
        return ops.cast(self.transform(ops.cast(z, "float32"))[0], self.compute_dtype)

    def transform(self, z: Any) -> tuple[Any, Any]:
        """u (batch, n) and log |du/dz| (batch,) of float32 z (batch, n)."""
        log_det = ops.zeros_like(z[:, 0])
        for of_z in self.maps:
            shift, log_scale = ops.split(of_z(z), 2, axis=-1)
            log_scale = 2.0 * ops.tanh(log_scale / 2.0)
            z = (z - shift) * ops.exp(-log_scale)
            log_det -= ops.sum(log_scale, axis=-1)
        return z, log_det

    def compute_output_shape(self, z_shape: Any) -> Any:
        return z_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "steps": self.steps, "hidden": self.hidden}
